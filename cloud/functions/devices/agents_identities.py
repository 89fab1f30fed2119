"""What the portal needs for agents' identities: their service, where boxes enrol, and the fingerprint they must see.

Must not know: FastAPI, how certificates are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import segno

from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.agents_view import invitation_text


@dataclass(frozen=True, slots=True)
class Identities:
    """Args: url: https://host:port of the enrolment listener; anchor: asks the CA process for the root's fingerprint."""

    service: AgentService
    url: str
    anchor: Callable[[], str]

    def invite(self, agent_id: str, project_id: int, *, uplink: str, hardware_id: str, by: str) -> dict[str, Any]:
        """A new invitation with everything the box needs, as text and QR code; its token is shown this once.

        Raises:
            KangError: refused, or the CA process does not answer.
        """
        fingerprint = self.anchor()  # first: without it a token would be of no use
        token, made = self.service.invite(agent_id, project_id, uplink=uplink, hardware_id=hardware_id, by=by)
        text = invitation_text(self.url, token, fingerprint)
        return {"id": made.id, "agent_id": made.agent_id, "project_id": made.project_id, "uplink": made.uplink, "hardware_id": made.hardware_id, "created_by": made.created_by,
                "expires_ms": made.expires_ms, "url": self.url, "token": token, "fingerprint": fingerprint, "text": text,
                "qr": segno.make(text, error="m").svg_inline(scale=4, border=2, dark="#000", light="#fff")}
