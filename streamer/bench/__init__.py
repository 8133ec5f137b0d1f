"""Benchmarks: figures with their conditions, and what they are compared with measured in the same run."""
