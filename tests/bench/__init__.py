"""Tests of what the benchmarks calculate; the figures themselves are no test."""
