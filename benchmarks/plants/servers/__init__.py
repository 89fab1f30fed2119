"""Servers that speak the real protocols for a community. Must not know: physics."""
