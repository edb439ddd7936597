"""Experiments as tests give them."""

__all__ = ["GOOD"]

GOOD = """
holdout = 0.05
[layers.model]
salt = "model-2026"
[[experiments]]
name = "first"
layer = "model"
start = 2026-01-02
days = 10
control = "tiger"
overrides = { "user-7" = "grc" }
guardrails = { p99_ms = 100 }
[[experiments.arms]]
name = "tiger"
run = "runs/tiger"
share = 0.15
[[experiments.arms]]
name = "grc"
run = "runs/grc"
share = 0.15
beams = 40
correction = { budget = 12 }
"""
