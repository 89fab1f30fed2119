"""Demand response: baselines, flexibility, settlement."""
