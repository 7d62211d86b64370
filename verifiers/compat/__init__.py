"""Graders of other harnesses, faithful to what they publish, faults included, to reproduce published figures.

None of them evaluates what a model wrote. Where theirs does, or stops itself by an alarm, ours says what it does
instead.
"""
