"""The life of a command as a table: which state may follow which, and what each means (ARCHITECTURE, "A command"). Pure.

Must not know: storage, transports.
"""

from __future__ import annotations

import enum
from typing import Final

from protos.kang.v1 import command_pb2 as pb


class State(enum.StrEnum):
    """States of a command; "delivered" is not among them, because nobody may guess it."""

    ACCEPTED = "accepted"        # in the journal, audited
    QUEUED = "queued"            # the agent is not connected; waits until the deadline
    SENT = "sent"                # handed to the agent's connection
    RECEIVED = "received"        # the agent has journalled it (the 10 s of clause 9.3 end here)
    EXECUTING = "executing"      # written to the device, effect awaited
    VERIFIED = "verified"        # read back
    FAILED = "failed"
    EXPIRED = "expired"          # never reached the agent in time
    SUPERSEDED = "superseded"    # a newer command of the same authority replaced it
    REFUSED = "refused"
    UNKNOWN = "unknown"          # may or may not have happened


FINAL: Final = frozenset({State.VERIFIED, State.FAILED, State.EXPIRED, State.SUPERSEDED, State.REFUSED})
WAITING: Final = frozenset({State.ACCEPTED, State.QUEUED, State.SENT})

#: What the agent reports -> our state.
FROM_STAGE: Final = {
    pb.STAGE_RECEIVED: State.RECEIVED, pb.STAGE_EXECUTING: State.EXECUTING, pb.STAGE_VERIFIED: State.VERIFIED, pb.STAGE_FAILED: State.FAILED,
    pb.STAGE_REFUSED: State.REFUSED, pb.STAGE_EXPIRED: State.EXPIRED, pb.STAGE_SUPERSEDED: State.SUPERSEDED, pb.STAGE_UNKNOWN: State.UNKNOWN,
}

#: The platform's own moves; what an agent reports is taken by the order of its journal (`Result.index`).
_MOVES: Final = {
    State.ACCEPTED: {State.QUEUED, State.SENT, State.EXPIRED, State.SUPERSEDED, State.REFUSED, State.UNKNOWN},
    State.QUEUED: {State.SENT, State.EXPIRED, State.SUPERSEDED, State.REFUSED, State.UNKNOWN},
    State.SENT: {State.QUEUED, State.UNKNOWN, State.SUPERSEDED},
    State.RECEIVED: {State.UNKNOWN},
    State.EXECUTING: {State.UNKNOWN},
    State.UNKNOWN: {State.VERIFIED, State.FAILED},
}


def may_move(before: State, after: State) -> bool:
    """May the platform itself move a command from `before` to `after`?"""
    return after in _MOVES.get(before, ())


def may_report(before: State, after: State) -> bool:
    """May an agent's newer report move a command? The device's own word wins over our waiting and over our `unknown` and `expired`."""
    return before not in (State.VERIFIED, State.FAILED, State.REFUSED) or after is before
