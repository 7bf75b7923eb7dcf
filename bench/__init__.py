"""Benchmarks: one file for each question, measured beside etcd in alternating rounds.

A question is a module of this package with a `measure(stage) -> Result` and one line of meaning on top.
What they share is in `harness/`; the load comes from `loadgen/`, a Go program that speaks to both.
Run by scripts/bench.
"""
