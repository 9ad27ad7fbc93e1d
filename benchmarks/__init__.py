"""Benchmarks: quality and cost of the samplers, side by side in one run."""
