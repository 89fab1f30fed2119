"""System (系统管理, 7.2.5): people, sessions, the operation log.

Must not know: Ray, NATS, FastAPI app objects.
"""
