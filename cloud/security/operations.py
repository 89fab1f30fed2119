"""The operation table: every act a person can ask for, who may, and how it is recorded. A route without a row cannot start.

Each function keeps its rows in `operations.py`; this module only knows what a row is. Must not know: FastAPI, sessions, functions.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cloud.core.clock import now_ms
from protos.errors import KangError

_NAME = re.compile(r"[a-z_]+(\.[a-z_]+){1,3}")
SCOPES = ("platform", "organisation", "region", "project", "household", "self")
LABELS = ("public", "internal", "control", "personal")
LEVELS = ("info", "notice", "warning", "alarm")
#: 0 safety and grid dispatch, 1 control, 2 operators' pages, 3 customers, 5 third parties, 9 batch.
PRIORITIES = (0, 1, 2, 3, 5, 9)
#: Seconds a strong authentication stands for control, roles, certificates, upgrades and tariffs.
STEP_UP_S = 300


class Role(enum.StrEnum):
    """What a person is here for (角色). The three administrators exclude each other and everything else."""

    SYSTEM_ADMIN = "system_admin"      # 系统管理员: accounts, configuration, backup
    SECURITY_ADMIN = "security_admin"  # 安全管理员: roles, policy, certificates, approvals
    AUDIT_ADMIN = "audit_admin"        # 审计管理员: reads, exports and verifies the audit
    OPERATOR = "operator"              # 运行值班员
    DISPATCHER = "dispatcher"          # 调度员
    ENGINEER = "engineer"              # 工程师
    FINANCE = "finance"                # 财务
    SERVICE = "service"                # 客服
    GRID_DISPATCHER = "grid_dispatcher"  # 电网调度员; a dispatch centre itself is a client with a certificate
    RESIDENT = "resident"              # 用户（住户）, a realm of their own
    AUDITOR = "audit_admin"            # the name before there were three administrators

    @classmethod
    def _missing_(cls, value: object) -> Role | None:
        return cls.AUDIT_ADMIN if value == "auditor" else None


#: The three administrators (三员).
ADMINS = frozenset({Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.AUDIT_ADMIN})
#: Roles of the people who run the plant.
STAFF = frozenset({Role.OPERATOR, Role.ENGINEER, Role.DISPATCHER})
#: Everyone who may look at the plant.
READERS = STAFF | {Role.AUDIT_ADMIN, Role.FINANCE, Role.SERVICE}
#: Readers, and residents within their own rooms.
EVERYONE = READERS | {Role.RESIDENT}
#: Whoever has an account: one's own session, password and passkeys.
ANYBODY = frozenset(Role)


def kind_of(roles: Iterable[Role]) -> str:
    """The kind of account these roles make: an administrator's own name, "resident", "business", "none", or "" when they exclude each other."""
    kinds = {str(r) if r in ADMINS or r is Role.RESIDENT else "business" for r in roles}
    return "none" if not kinds else kinds.pop() if len(kinds) == 1 else ""


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
        level: level of its log row: info, notice, warning, alarm.
        open: needs no session (signing in).
        safety: a safety act: goes on even when the log cannot be written.
        scope: whose data it reaches: platform (only people without a narrower scope), organisation, region, project, household, self.
        factor_s: greatest age of the asker's last strong authentication, seconds; None = any. Residents are bound by limits instead.
        two_person: a second person must approve before it happens.
        approvers: who may be the second person; empty = `roles`.
        priority: admission class, see `PRIORITIES`.
        audit: "changes" = a log row when it changes something, "always" = for reading too.
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
    scope: str = "project"
    factor_s: int | None = None
    two_person: bool = False
    approvers: frozenset[Role] = frozenset()
    priority: int = 2
    audit: str = "changes"

    @property
    def recorded(self) -> bool:
        """True when every call leaves a row in the operation log."""
        return self.changes or self.audit == "always"

    def grants(self, roles: frozenset[Role]) -> bool:
        """True when these roles may; what anybody may, a person still without a role may too."""
        return bool(self.roles & roles) or self.roles == ANYBODY

    @property
    def seconds(self) -> frozenset[Role]:
        """Who may approve as the second person."""
        return self.approvers or self.roles


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
            problem = _contradiction(row)
            if problem:
                raise OperationTableError(reason=problem)
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
        return frozenset(row.name for row in self if row.open or row.grants(mine))


def described(row: Operation) -> dict[str, object]:
    """A row as the API, the page and the documentation show it."""
    return {"name": row.name, "zh": row.zh, "en": row.en, "roles": sorted(row.roles), "changes": row.changes, "label": row.label, "level": row.level, "open": row.open,
            "safety": row.safety, "scope": row.scope, "factor_s": row.factor_s, "two_person": row.two_person, "approvers": sorted(row.approvers), "priority": row.priority, "audit": row.audit}


def _contradiction(row: Operation) -> str:
    """What is wrong with a row, "" when nothing is."""
    wrong = [
        (row.label not in LABELS or row.level not in LEVELS, "has an unknown label or level"),
        (row.scope not in SCOPES, f"has an unknown scope '{row.scope}'"),
        (row.priority not in PRIORITIES, f"has an unknown priority {row.priority}"),
        (row.audit not in ("changes", "always"), f"has an unknown audit '{row.audit}'"),
        (not row.roles and not row.open, "may be done by nobody"),
        (bool(row.roles) and row.open, "is open and yet names roles"),
        (row.factor_s is not None and (row.factor_s < 30 or row.open or row.safety), "cannot have that factor age: 30 s at least, not open, not a safety act"),
        (row.two_person and (not row.changes or row.open or row.safety), "needs two persons, so it must change something and be neither open nor a safety act"),
        (bool(row.approvers) and not row.two_person, "names approvers and needs no second person"),
        (row.safety and row.priority != 0, "is a safety act, so its priority must be 0"),
        (row.label == "control" and row.changes and not row.safety and row.factor_s is None, "changes a plant, so it needs a factor age"),
        (Role.RESIDENT in row.roles and row.scope not in ("project", "household", "self"), "lets residents reach beyond their project"),
        (row.changes and row.scope != "self" and row.label != "control" and Role.AUDIT_ADMIN in row.roles and len(row.roles) > 1,
         "lets the audit administrator write where others write"),
    ]
    return next((f"'{row.name}' {text}" for bad, text in wrong if bad), "")


@dataclass(frozen=True, slots=True)
class Contract:
    """A project an organisation serves, for a time: [starts_ms, ends_ms)."""

    project_id: int
    starts_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: a signed-in person (or an external client) with roles and a scope.

    Attributes:
        project_ids: projects in scope, None = all.
        device_ids: devices in scope, None = all of the projects.
        session: digest of the session.
        csrf: token the session's state-changing calls must carry.
        kind: "person" or "client".
        organisation_id: None = the platform's own.
        region_codes: regions in scope (with what lies below them), None = all.
        contracts: what the organisation is contracted for, None = not bound by contracts. Judged at every call, so that a provider sees
            nothing from the moment its contract ends.
        factor_ms: last strong authentication, None = none in this session.
        restricted: "" or why only one's own account may be touched ("password" = it has to be changed first).
        now: UTC milliseconds.
        regions_of: codes of a project's region and of those above it.
    """

    user_id: int
    name: str
    display_name: str
    roles: frozenset[Role]
    project_ids: frozenset[int] | None
    device_ids: frozenset[int] | None
    session: str
    csrf: str
    kind: str = "person"
    organisation_id: int | None = None
    region_codes: frozenset[str] | None = None
    contracts: tuple[Contract, ...] | None = None
    factor_ms: int | None = None
    restricted: str = ""
    now: Callable[[], int] = now_ms
    regions_of: Callable[[int], frozenset[str]] | None = None

    @property
    def resident(self) -> bool:
        """True in the residents' realm."""
        return self.roles == {Role.RESIDENT}

    @property
    def bounded(self) -> bool:
        """True when the scope is less than the whole platform."""
        return any(x is not None for x in (self.organisation_id, self.project_ids, self.device_ids, self.region_codes, self.contracts))

    def factor_fresh(self, seconds: int) -> bool:
        """True when the last strong authentication is at most that old."""
        return self.factor_ms is not None and 0 <= self.now() - self.factor_ms <= seconds * 1000

    def sees_project(self, project_id: int) -> bool:
        """True when the project is in scope now."""
        if self.project_ids is not None and project_id not in self.project_ids:
            return False
        if self.region_codes is not None and (self.regions_of is None or not self.region_codes & self.regions_of(project_id)):
            return False
        if self.contracts is None:
            return True
        now = self.now()
        return any(c.project_id == project_id and c.starts_ms <= now < c.ends_ms for c in self.contracts)

    def sees_device(self, project_id: int, device_id: int) -> bool:
        """True when the device is in scope."""
        return self.sees_project(project_id) and (self.device_ids is None or device_id in self.device_ids)
