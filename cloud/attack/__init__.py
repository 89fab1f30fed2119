"""`kang attack`: what must be refused, tried against a live stack. For an outside reviewer: one row per attempt, accepted or refused.

Must not know: how refusals are made; it stands outside and knocks.
"""
