"""Random communities of every kind, from a seed: the benchmark's own (it runs where tests are not installed)."""

from __future__ import annotations

from benchmarks.optimizers.drawn import hostile, ordinary

__all__ = ["hostile", "ordinary"]
