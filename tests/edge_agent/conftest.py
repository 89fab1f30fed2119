"""Fixtures of the agent's tests."""
