"""Measurements: each script prints a table and writes it to benchmarks/results."""
