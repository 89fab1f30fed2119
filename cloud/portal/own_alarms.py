"""The platform's alarms about itself (平台自身报警), in the same list as those of devices: raised once, cleared once, taken up again after a restart.

Whoever finds something says so as often as it likes; other processes say it on the bus. Must not know: who finds what, pages.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cloud.core.clock import now_ms
from cloud.historian.writer import AlarmRow
from protos.errors import KangError

log = logging.getLogger("kang.alarms")
#: Where processes without a historian say it: JSON of `Own`'s fields; {"rule", "who", "wrong": false} when it is over.
SUBJECT: Final = "alarm.own"
_SPACE: Final = uuid.UUID("5b0d7a54-3c37-5c0e-9a54-0c6f2f0f5a11")  # ours, made once at random
_MOST: Final = 10_000
_TOLD: Final = 1_000  # different things said on the bus


class Books(Protocol):
    """What takes alarms: `cloud.historian.writer.Writer`."""

    async def books(self, alarms: Any, quarantine: Any, gaps: Any, token: str) -> None:
        """Upsert rows."""
        ...


class Lists(Protocol):
    """What lists alarms: `cloud.historian.reader.Reader`."""

    async def alarms(self, *, project_id: int | None = None, active: bool | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        """Alarms, newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Own:
    """Something that is wrong with the platform, or with a box's trust in it.

    Attributes:
        rule: what kind, e.g. "audit_behind".
        who: which one of its kind ("" when there is only one): an agent, a process.
        zh: for people, with a way out.
        en: the same in English.
        project_id: whose alarm it is; 0 = the platform's.
        severity: critical, major, minor, warning.
        value: how bad, in the unit of `limit`.
        limit: from where on it is wrong.
    """

    rule: str
    zh: str
    en: str
    who: str = ""
    project_id: int = 0
    severity: str = "critical"
    value: float = 0.0
    limit: float = 0.0


class OwnAlarms:
    """Keeps what stands and owes the historian the difference."""

    def __init__(self, writer: Books, reader: Lists, now: Callable[[], int] = now_ms) -> None:
        self._writer, self._reader, self._now = writer, reader, now
        self._wishes: dict[tuple[str, str], tuple[Own | None, int]] = {}
        self._standing: dict[tuple[str, str], AlarmRow] = {}
        self._before: dict[uuid.UUID, AlarmRow] | None = None

    def say(self, wrong: Own) -> None:
        """This is wrong."""
        known = self._wishes.get((wrong.rule, wrong.who))
        self._wishes[wrong.rule, wrong.who] = (wrong, known[1] if known is not None and known[0] is not None else self._now())

    def over(self, rule: str, who: str = "") -> None:
        """It is not (any more)."""
        known = self._wishes.get((rule, who))
        if known is None or known[0] is not None:
            self._wishes[rule, who] = (None, self._now())

    def hear(self, data: bytes) -> None:
        """What another process said on the bus; anything malformed is dropped."""
        try:
            found = json.loads(data)
            if found.pop("wrong", True):
                own = Own(**found)
                if all(isinstance(v, str) for v in (own.rule, own.who, own.zh, own.en, own.severity)) and (len(self._wishes) < _TOLD or (own.rule, own.who) in self._wishes):
                    self.say(own)
            else:
                self.over(str(found["rule"]), str(found.get("who", "")))
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("not an alarm: %.80r", data)

    async def settle(self) -> None:
        """Write what is owed; when the historian is away it stays owed."""
        try:
            if self._before is None:
                self._before = {uuid.UUID(a["id"]): AlarmRow(uuid.UUID(a["id"]), a["project_id"], a["device_id"], a["point_id"], a["rule"], a["severity"], a["zh"], a["en"],
                                                             a["raised_ms"], 0, a["value"], a["limit"])
                                for a in await self._reader.alarms(active=True, limit=_MOST) if a["device_id"] == 0}
            for key, (wish, since) in list(self._wishes.items()):
                await self._settle(key, wish, since)
        except KangError as error:
            log.warning("alarms wait for the historian: %s", error.code)

    async def _settle(self, key: tuple[str, str], wish: Own | None, since: int) -> None:
        standing = self._standing.get(key) or self._recalled(key)
        if wish is not None and standing is None:
            row = AlarmRow(_identity(key, since), wish.project_id, 0, 0, wish.rule, wish.severity, wish.zh, wish.en, since, 0, wish.value, wish.limit)
            await self._write(row)
            self._standing[key] = row
        elif wish is None:
            if standing is not None:
                fields: dict[str, Any] = {name: getattr(standing, name) for name in AlarmRow.__slots__}
                await self._write(AlarmRow(**{**fields, "cleared_ms": max(since, standing.raised_ms + 1)}))
                self._standing.pop(key, None)
            if self._wishes.get(key) == (wish, since):
                del self._wishes[key]

    def _recalled(self, key: tuple[str, str]) -> AlarmRow | None:
        """What a life before this one raised and nobody cleared."""
        for row in (self._before or {}).values():
            if row.rule == key[0] and row.id == _identity(key, row.raised_ms):
                self._standing[key] = row
                assert self._before is not None
                return self._before.pop(row.id)
        return None

    async def _write(self, row: AlarmRow) -> None:
        await self._writer.books([row], [], [], f"own:{row.id}:{row.cleared_ms}")


def _identity(key: tuple[str, str], raised_ms: int) -> uuid.UUID:
    return uuid.uuid5(_SPACE, f"{key[0]}\n{key[1]}\n{raised_ms}")
