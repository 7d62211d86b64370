"""Estimators over pools of samples, their intervals and tests."""
