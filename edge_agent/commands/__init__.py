"""Commands at the edge: journal, desk, actuation. The journal is written before anything is done.

Must not know: transports, drivers, the spool.
"""
