"""Demand response (需求响应, 7.3.7): what the grid may ask for, what it asked for, who answers with how much, what came of it.

Must not know: FastAPI (but api.py), Ray, NATS.
"""
