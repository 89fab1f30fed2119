"""How sealed bytes leave the box: gRPC or NATS, the same bytes and the same session over both.

Must not know: drivers, decisions.
"""
