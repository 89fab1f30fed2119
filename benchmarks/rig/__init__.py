"""A test rig of the road: simple field devices that remember every write, an agent whose spool keeps a ledger, a platform to send it to."""
