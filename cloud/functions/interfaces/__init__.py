"""Interfaces (数据接口, 7.3.1): external systems, what they may ask for, how often, and before whom.

Must not know: Ray, NATS, FastAPI app objects.
"""
