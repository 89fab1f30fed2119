"""The port through which remote control asks what an act will do to rooms and bill (预演); who can tell stands further right.

Must not know: models, tariffs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cloud.core.ports import CommandRequest


class Effects(Protocol):
    """Predicts the effect of commands."""

    async def effect(self, project_id: int, wishes: Sequence[CommandRequest]) -> dict[str, Any] | None:
        """What these commands on one project will change against going on as now.

        Returns:
            {hours: [1, 2, ...], room_k: [change of the mean room, K], kwh, yuan (None = no tariff), how: register|balance|identified, unpredicted: [device ids]};
            None when nothing can be said.
        """
        ...
