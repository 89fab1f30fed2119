"""Devices (设备管理, 7.2.6): who exists, with what template, on which agent.

Must not know: Ray, NATS, FastAPI app objects.
"""
