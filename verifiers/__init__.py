"""Judges of partial and finished answers."""
