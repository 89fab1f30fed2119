"""Organisations and their service contracts (单位与服务合同): a contract's projects and dates are what an organisation's people may see.

Must not know: FastAPI, projects (their ids come from outside).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import func, select

from cloud.functions.system.errors import PersonError
from cloud.functions.system.people_tables import Account, Organisation, ServiceContract
from cloud.functions.system.sessions import SessionService
from cloud.security import audit
from cloud.security.guard import NotFoundError

KINDS = ("owner", "provider", "customer")


class OrganisationService:
    """Who works for whom, on what, until when."""

    def __init__(self, sessions: SessionService, now: Callable[[], int]) -> None:
        self._sessions = sessions
        self._ledger = sessions.ledger
        self._now = now

    def rows(self) -> list[dict[str, Any]]:
        """All organisations with their contracts and number of people."""
        with self._ledger.read() as session:
            people: dict[int | None, int] = {r[0]: r[1] for r in session.execute(select(Account.organisation_id, func.count()).group_by(Account.organisation_id))}
            contracts: dict[int, list[dict[str, Any]]] = {}
            for c in session.scalars(select(ServiceContract).order_by(ServiceContract.starts_ms)):
                contracts.setdefault(c.organisation_id, []).append({"id": c.id, "number": c.number, "project_ids": c.project_ids, "starts_ms": c.starts_ms, "ends_ms": c.ends_ms})
            return [{"id": o.id, "code": o.code, "name_zh": o.name_zh, "name_en": o.name_en, "kind": o.kind, "people": people.get(o.id, 0), "contracts": contracts.get(o.id, [])}
                    for o in session.scalars(select(Organisation).order_by(Organisation.code))]

    def register(self, code: str, name_zh: str, name_en: str, kind: str) -> int:
        """Register or rename an organisation; its kind stays."""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", code) or kind not in KINDS:
            raise PersonError(name=code, reason_zh="单位代码或类型不合规", reason_en="the organisation's code or kind will not do")
        with self._ledger.write() as session:
            row = session.scalar(select(Organisation).where(Organisation.code == code))
            before = {"code": row.code, "name_zh": row.name_zh, "name_en": row.name_en, "kind": row.kind} if row is not None else None
            if row is None:
                row = Organisation(code=code, kind=kind, created_ms=self._now(), name_zh=name_zh, name_en=name_en)
                session.add(row)
            elif row.kind != kind:
                raise PersonError(name=code, reason_zh="单位类型登记后不能更改", reason_en="an organisation's kind cannot change")
            row.name_zh, row.name_en = name_zh, name_en
            session.flush()
            audit.record(session, "system.organisation.change", at_ms=self._now(), target=f"organisations/{row.id}", object_=f"organisation/{row.id}", before=before,
                         after={"code": code, "name_zh": name_zh, "name_en": name_en, "kind": kind}, level="warning")
            return row.id

    def by_code(self, code: str) -> int:
        """The organisation with that code, made as a service provider when there is none."""
        with self._ledger.read() as session:
            found = session.scalar(select(Organisation.id).where(Organisation.code == code))
        return found if found is not None else self.register(code, code, code, "provider")

    def contract(self, organisation_id: int, number: str, project_ids: Sequence[int], starts_ms: int, ends_ms: int) -> int:
        """Register a contract, or change projects and dates of the one with that number.

        Raises:
            NotFoundError: no such organisation.
            PersonError: it ends before it starts, names no project, or the number belongs to another organisation.
        """
        if ends_ms <= starts_ms or not project_ids:
            raise PersonError(name=number, reason_zh="合同须有项目，且止期晚于起期", reason_en="a contract needs projects and must end after it starts")
        with self._ledger.write() as session:
            if session.get(Organisation, organisation_id) is None:
                raise NotFoundError(what="organisation", name=organisation_id)
            row = session.scalar(select(ServiceContract).where(ServiceContract.number == number))
            before = {"number": number, "project_ids": row.project_ids, "starts_ms": row.starts_ms, "ends_ms": row.ends_ms} if row is not None else None
            if row is None:
                row = ServiceContract(organisation_id=organisation_id, number=number, project_ids=[], starts_ms=starts_ms, ends_ms=ends_ms, created_ms=self._now())
                session.add(row)
            elif row.organisation_id != organisation_id:
                raise PersonError(name=number, reason_zh="合同编号已属于另一单位", reason_en="the number belongs to another organisation's contract")
            row.project_ids, row.starts_ms, row.ends_ms = sorted(set(project_ids)), starts_ms, ends_ms
            session.flush()
            found = row.id
            audit.record(session, "system.contract.change", at_ms=self._now(), target=f"organisations/{organisation_id}", object_=f"service_contract/{found}", before=before,
                         after={"number": number, "project_ids": row.project_ids, "starts_ms": starts_ms, "ends_ms": ends_ms}, level="warning")
        self._sessions.forget()
        return found
