"""Benchmarks: data sets, metrics and the runner.  Nothing below imports it."""
