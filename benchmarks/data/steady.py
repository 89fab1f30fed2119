"""A field whose registers change between the instants of sampling, never at them: two agents that read it a moment apart read the same numbers.

`python -m benchmarks.data.steady --port N --devices N --log FILE`. Must not know: agents.
"""

from __future__ import annotations

import time

from benchmarks.rig import field

PERIOD_S = 2


class Steady(field.Field):
    """Values hold from one second before a sampling instant to one second after it."""

    def word(self, unit: int, register: int) -> int:
        """A holding register."""
        if register == 20:
            return self.setpoints[unit]
        second = (int(time.time()) + 1) // PERIOD_S * PERIOD_S
        counter = (second * 7 + unit) & 0xFFFFFFFF
        if register in (8, 9):
            return counter >> 16 if register == 8 else counter & 0xFFFF
        return (second * (register + 1) + unit * 37) % 5000


if __name__ == "__main__":
    field.Field = Steady  # type: ignore[misc]
    field.main()
