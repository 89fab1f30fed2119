"""The data plane as ratios: `python -m benchmarks.data`. Every figure is taken beside a baseline, in the same minutes, on the same machine."""
