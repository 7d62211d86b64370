"""Judges without ground truth: how solutions are put to a reward model, where its scores are read and what they mean.

Nothing in here loads a model: weights and forwards are in `verifiers.models`.
"""
