"""Benchmarks and what developers run; not installed."""
