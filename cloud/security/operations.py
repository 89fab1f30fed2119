"""The operation table: every act a person can ask for, who may, and how it is recorded. A route without a row cannot start.

Each function keeps its rows in `operations.py`; this module only knows what a row is. Must not know: FastAPI, sessions, functions.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protos.errors import KangError

_NAME = re.compile(r"[a-z_]+(\.[a-z_]+){1,3}")


class Role(enum.StrEnum):
    """What a person is here for (角色)."""

    OPERATOR = "operator"      # 运行值班员
    ENGINEER = "engineer"      # 工程师
    DISPATCHER = "dispatcher"  # 调度员
    AUDITOR = "auditor"        # 审计员
    RESIDENT = "resident"      # 用户（住户）


#: Roles of the people who run the plant.
STAFF = frozenset({Role.OPERATOR, Role.ENGINEER, Role.DISPATCHER})
#: Everyone who may look at the plant.
READERS = STAFF | {Role.AUDITOR}
EVERYONE = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the operation table.

    Attributes:
        name: dotted, e.g. "monitoring.history.read".
        zh: what it is in Chinese, the standard's term.
        en: the same in English.
        roles: who may.
        changes: True when it changes something: needs the CSRF token and leaves a row in the operation log.
        label: public, internal, control or personal (GB 17859).
        level: level of its log row: info, notice, warning.
        open: needs no session (signing in).
        safety: a safety act: goes on even when the log cannot be written.
    """

    name: str
    zh: str
    en: str
    roles: frozenset[Role]
    changes: bool = False
    label: str = "internal"
    level: str = "info"
    open: bool = False
    safety: bool = False


class OperationTableError(KangError):
    """The operation table contradicts itself or a route; found at start."""

    code = "E-OPERATION-TABLE"
    zh = "操作表有误：{reason}。请在对应功能的 operations.py 中补正。"
    en = "The operation table is wrong: {reason}. Correct the function's operations.py."


class OperationTable:
    """All rows, by name."""

    def __init__(self, rows: Iterable[Operation]) -> None:
        self._rows: dict[str, Operation] = {}
        for row in rows:
            if not _NAME.fullmatch(row.name):
                raise OperationTableError(reason=f"'{row.name}' is not a dotted lower-case name")
            if row.name in self._rows:
                raise OperationTableError(reason=f"'{row.name}' is given twice")
            if row.label not in ("public", "internal", "control", "personal") or row.level not in ("info", "notice", "warning"):
                raise OperationTableError(reason=f"'{row.name}' has an unknown label or level")
            if not row.roles and not row.open:
                raise OperationTableError(reason=f"nobody may do '{row.name}'")
            self._rows[row.name] = row

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._rows.values())

    def __getitem__(self, name: str) -> Operation:
        row = self._rows.get(name)
        if row is None:
            raise OperationTableError(reason=f"'{name}' has no row")
        return row

    def allowed(self, roles: Iterable[Role]) -> frozenset[str]:
        """Names of the operations that somebody with these roles may do."""
        mine = frozenset(roles)
        return frozenset(row.name for row in self if row.open or row.roles & mine)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: a signed-in person with roles and a scope.

    Attributes:
        project_ids: projects in scope, None = all.
        device_ids: devices in scope, None = all of the projects.
        session: digest of the session.
        csrf: token the session's state-changing calls must carry.
    """

    user_id: int
    name: str
    display_name: str
    roles: frozenset[Role]
    project_ids: frozenset[int] | None
    device_ids: frozenset[int] | None
    session: str
    csrf: str

    def sees_project(self, project_id: int) -> bool:
        """True when the project is in scope."""
        return self.project_ids is None or project_id in self.project_ids

    def sees_device(self, project_id: int, device_id: int) -> bool:
        """True when the device is in scope."""
        return self.sees_project(project_id) and (self.device_ids is None or device_id in self.device_ids)
