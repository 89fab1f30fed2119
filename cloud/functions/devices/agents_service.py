"""Agents' identities over their life (代理身份): invited, enrolled, renewed, revoked, suspected of being a clone.

Every change raises the agents' revision, so that gateways and hosts act on it within a fraction of a second.
Must not know: FastAPI, who signs certificates, transports.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cloud.core.clock import now_ms
from cloud.functions.devices.agents_tables import AgentCertificate, AgentEvent, AgentFormerKey, AgentInvitation, AgentTrust
from cloud.functions.devices.errors import RegistrationError
from cloud.functions.devices.service import AGENTS, DeviceService
from cloud.functions.devices.tables import Agent, Project
from cloud.ledger import Ledger, announce, bump, revision
from cloud.security import audit
from protos.errors import KangError

INVITATION_MS: Final = 24 * 3_600_000
#: A key of before is refused after this even if it was never told where it ended.
FORMER_MS: Final = 120 * 86_400_000
USABLE: Final = ("issued", "active")


class EnrolmentError(KangError):
    """An enrolment or renewal is refused. One wording for every wrong token: it tells nothing about which exist."""

    code = "E-ENROL"
    zh = "注册被拒绝：{reason_zh}。请向管理员索取新的注册码。"
    en = "Enrolment is refused: {reason_en}. Ask the administrator for a new invitation."


def token_refused() -> EnrolmentError:
    """Unknown, used, expired, withdrawn, or for another box."""
    return EnrolmentError(reason_zh="注册码无效、已使用或已过期", reason_en="the token is not valid, was used, or has expired")


def renewal_refused() -> EnrolmentError:
    """Revoked, unknown, too late, or another box."""
    return EnrolmentError(reason_zh="证书不可续期", reason_en="this certificate cannot be renewed")


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a token admits."""

    id: int
    agent_id: str
    project_id: int
    uplink: str
    hardware_id: str
    created_ms: int
    created_by: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class BoxKeys:
    """Public keys a box made, and what it calls itself."""

    signing: bytes
    box: bytes
    nkey: str = ""
    hardware_id: str = ""


class AgentService:
    """Writes agents' identities."""

    def __init__(self, ledger: Ledger, now_ms: Callable[[], int] = now_ms) -> None:
        self._ledger = ledger
        self._now_ms = now_ms

    # -- invitations --------------------------------------------------------------------------------------------------

    def invite(self, agent_id: str, project_id: int, *, uplink: str = "grpc", hardware_id: str = "", by: str = "") -> tuple[str, Invitation]:
        """A one-time token for one agent, valid for a day; earlier unused ones of that agent end.

        Returns:
            (the token, shown once and kept only as a hash; what it admits)

        Raises:
            RegistrationError: unknown project, wrong name or uplink, or the agent belongs to another project.
        """
        if not agent_id or len(agent_id) > 60 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in agent_id):
            raise _refuse(agent_id, "代理编号应为 1–60 个字母、数字、- 或 _", "an agent id is 1-60 letters, digits, '-' or '_'")
        if uplink not in ("grpc", "nats"):
            raise _refuse(agent_id, "上行方式应为 grpc 或 nats", "the uplink must be grpc or nats")
        token, now = secrets.token_hex(16), self._now_ms()
        with self._ledger.write() as session:
            known = session.get(Agent, agent_id)
            if session.get(Project, project_id) is None:
                raise _refuse(agent_id, f"没有项目 {project_id}", f"there is no project {project_id}")
            if known is not None and known.project_id != project_id:
                raise _refuse(agent_id, "已属于另一项目", "it belongs to another project")
            session.execute(update(AgentInvitation).where(AgentInvitation.agent_id == agent_id, AgentInvitation.used_ms.is_(None)).values(withdrawn_ms=now))
            row = AgentInvitation(token_hash=_hash(token), agent_id=agent_id, project_id=project_id, uplink=uplink, hardware_id=hardware_id[:120], created_ms=now, created_by=by,
                                  expires_ms=now + INVITATION_MS)
            session.add(row)
            session.flush()
            self._event(session, agent_id, "invited", "info", f"by {by}")
            audit.record(session, "devices.agent.invite_new", at_ms=now, target=f"agents/{agent_id}", object_=f"agent_invitation/{row.id}", after={"agent": agent_id, "project": project_id, "uplink": uplink,
                         "hardware": hardware_id[:120], "expires_ms": row.expires_ms}, level="warning", operator=by or None)
            return token, _invitation(row)

    def withdraw(self, invitation_id: int) -> None:
        """End an unused invitation."""
        with self._ledger.write() as session:
            session.execute(update(AgentInvitation).where(AgentInvitation.id == invitation_id, AgentInvitation.used_ms.is_(None)).values(withdrawn_ms=self._now_ms()))

    def open_invitations(self) -> list[Invitation]:
        """Unused, not withdrawn, not expired."""
        with self._ledger.read() as session:
            return [_invitation(row) for row in session.scalars(select(AgentInvitation).where(
                AgentInvitation.used_ms.is_(None), AgentInvitation.withdrawn_ms.is_(None), AgentInvitation.expires_ms > self._now_ms()).order_by(AgentInvitation.id))]

    def look_up(self, token: str, hardware_id: str) -> Invitation:
        """What a token would admit.

        Raises:
            EnrolmentError: it admits nobody.
        """
        with self._ledger.read() as session:
            row = session.scalar(select(AgentInvitation).where(AgentInvitation.token_hash == _hash(token)))
            self._check(row, hardware_id)
            assert row is not None
            return _invitation(row)

    def _check(self, row: AgentInvitation | None, hardware_id: str) -> None:
        if row is None or row.used_ms is not None or row.withdrawn_ms is not None or row.expires_ms <= self._now_ms() or (row.hardware_id and row.hardware_id != hardware_id):
            raise token_refused()

    def enrol(self, token: str, keys: BoxKeys, *, serial: str, not_after_ms: int) -> Invitation:
        """Use a token up: the box is admitted with its keys and the certificate made for it.

        Raises:
            EnrolmentError: the token admits nobody (any more).
        """
        with self._ledger.write() as session:  # the token first: two boxes with one token cannot both pass
            row = session.scalar(select(AgentInvitation).where(AgentInvitation.token_hash == _hash(token)))
            self._check(row, keys.hardware_id)
            assert row is not None
            row.used_ms = self._now_ms()
            found = _invitation(row)
        self.admit(found.agent_id, found.project_id, keys, uplink=found.uplink, serial=serial, not_after_ms=not_after_ms, how="enrolled")
        return found

    def admit(self, agent_id: str, project_id: int, keys: BoxKeys, *, uplink: str, serial: str, not_after_ms: int, how: str = "admitted") -> None:
        """Admit a box, or admit it again: its certificates of before are refused, and so is what another signing key signed.

        Raises:
            RegistrationError: as `DeviceService.register_agent`.
        """
        DeviceService(self._ledger, self._now_ms).register_agent(agent_id, project_id, signing_public=keys.signing, box_public=keys.box, uplink=uplink, certificate_serial=serial)
        with self._ledger.write() as session:
            session.execute(update(AgentCertificate).where(AgentCertificate.agent_id == agent_id, AgentCertificate.state.in_(USABLE)).values(state="superseded"))
            session.merge(AgentCertificate(serial=serial, agent_id=agent_id, issued_ms=self._now_ms(), not_after_ms=not_after_ms, state="active"))
            session.execute(update(AgentFormerKey).where(AgentFormerKey.agent_id == agent_id, AgentFormerKey.retired_ms.is_(None)).values(retired_ms=self._now_ms()))
            trust = _trust(session, agent_id)
            trust.hardware_id, trust.nkey = keys.hardware_id[:120] or trust.hardware_id, keys.nkey
            trust.revoked_ms, trust.revoked_by, trust.revoked_reason, trust.clone_ms, trust.clone_detail = None, "", "", None, ""
            self._event(session, agent_id, how, "info", f"certificate {serial}")
            _changed(session)

    # -- renewal ------------------------------------------------------------------------------------------------------

    def renewable(self, agent_id: str, project_id: int, serial: str, hardware_id: str, *, grace: bool) -> None:
        """May the holder of this certificate have a new one?

        Raises:
            EnrolmentError: revoked, superseded, another project's, or (in grace, and where one is recorded) another box.
        """
        with self._ledger.read() as session:
            agent, certificate, trust = session.get(Agent, agent_id), session.get(AgentCertificate, serial), session.get(AgentTrust, agent_id)
        mine = agent is not None and agent.project_id == project_id and not agent.revoked
        usable = mine and ((agent is not None and agent.certificate_serial == serial) or (certificate is not None and certificate.agent_id == agent_id and certificate.state in USABLE))
        bound = trust.hardware_id if trust is not None else ""
        if not usable or (bound and bound != hardware_id) or (grace and (not bound or (trust is not None and trust.clone_ms))):
            raise renewal_refused()

    def renew(self, agent_id: str, *, signing: bytes, nkey: str, serial: str, not_after_ms: int, grace: bool) -> None:
        """A new certificate and signing key stand beside the ones in use until the agent has said where it changed.

        Raises:
            EnrolmentError: unknown, revoked, or a key of the other suite: that needs a new enrolment.
        """
        now = self._now_ms()
        with self._ledger.write() as session:
            agent = session.get(Agent, agent_id)
            if agent is None or agent.revoked or len(agent.signing_public) != len(signing):
                raise renewal_refused()
            if not session.scalar(select(AgentCertificate).where(AgentCertificate.serial == agent.certificate_serial)) and agent.certificate_serial:
                session.add(AgentCertificate(serial=agent.certificate_serial, agent_id=agent_id, issued_ms=now, not_after_ms=0, state="active"))
            session.execute(update(AgentCertificate).where(AgentCertificate.agent_id == agent_id, AgentCertificate.state == "issued").values(state="superseded"))
            session.add(AgentCertificate(serial=serial, agent_id=agent_id, issued_ms=now, not_after_ms=not_after_ms, state="issued"))
            if agent.signing_public != signing:
                for stream in ("batch", "result"):
                    session.add(AgentFormerKey(agent_id=agent_id, stream=stream, signing_public=agent.signing_public, epoch=b"", created_ms=now))
                agent.signing_public = signing
            trust = _trust(session, agent_id)
            trust.nkey = nkey or trust.nkey
            if grace:
                self._event(session, agent_id, "grace_renewal", "notice", f"certificate {serial}")
            _changed(session)

    def confirm(self, agent_id: str, serial: str, changed: Mapping[str, tuple[bytes, int]]) -> None:
        """The agent uses its new certificate: the one of before is refused, and keys of before hold for sequences up to `changed`.

        Raises:
            EnrolmentError: this certificate is not the agent's.
        """
        now = self._now_ms()
        with self._ledger.write() as session:
            agent, certificate = session.get(Agent, agent_id), session.get(AgentCertificate, serial)
            if agent is None or agent.revoked or certificate is None or certificate.agent_id != agent_id or certificate.state not in USABLE:
                raise renewal_refused()
            if certificate.state == "active" and session.scalar(select(AgentCertificate).where(AgentCertificate.agent_id == agent_id, AgentCertificate.state == "issued")) is not None:
                raise renewal_refused()  # said over the certificate of before: it would end the new one
            session.execute(update(AgentCertificate).where(AgentCertificate.agent_id == agent_id, AgentCertificate.state.in_(USABLE), AgentCertificate.serial != serial).values(state="superseded"))
            certificate.state = "active"
            agent.certificate_serial = serial
            for stream, (epoch, last) in changed.items():
                session.execute(update(AgentFormerKey).where(AgentFormerKey.agent_id == agent_id, AgentFormerKey.stream == stream, AgentFormerKey.last_sequence.is_(None))
                                .values(epoch=epoch, last_sequence=last, retired_ms=None if last else now))
            session.execute(update(AgentFormerKey).where(AgentFormerKey.agent_id == agent_id, AgentFormerKey.created_ms < now - FORMER_MS).values(retired_ms=now))
            self._event(session, agent_id, "renewed", "info", f"certificate {serial}")
            _changed(session)

    def drained(self, agent_id: str, epoch: bytes, last_sequence: int) -> None:
        """The agent holds no batch up to `last_sequence` any more: keys that signed only those are retired."""
        with self._ledger.write() as session:
            session.execute(update(AgentFormerKey).where(
                AgentFormerKey.agent_id == agent_id, AgentFormerKey.stream == "batch", AgentFormerKey.epoch == epoch, AgentFormerKey.last_sequence <= last_sequence,
                AgentFormerKey.retired_ms.is_(None)).values(retired_ms=self._now_ms()))
            _changed(session)

    # -- refusal ------------------------------------------------------------------------------------------------------

    def revoke(self, agent_id: str, *, by: str = "", reason: str = "") -> None:
        """Refuse an agent from now on (吊销): certificates, streams, messages, keys of before.

        Raises:
            RegistrationError: unknown.
        """
        DeviceService(self._ledger, self._now_ms).revoke_agent(agent_id)
        now = self._now_ms()
        with self._ledger.write() as session:
            session.execute(update(AgentCertificate).where(AgentCertificate.agent_id == agent_id, AgentCertificate.state.in_(USABLE)).values(state="revoked"))
            session.execute(update(AgentInvitation).where(AgentInvitation.agent_id == agent_id, AgentInvitation.used_ms.is_(None)).values(withdrawn_ms=now))
            trust = _trust(session, agent_id)
            before = {"agent": agent_id, "revoked_ms": trust.revoked_ms}
            trust.revoked_ms, trust.revoked_by, trust.revoked_reason = now, by[:60], reason[:200]
            audit.record(session, "devices.agent.revoke", at_ms=now, target=f"agents/{agent_id}", object_=f"agent/{agent_id}", before=before, after={"agent": agent_id, "revoked_ms": now, "reason": reason[:200]},
                         level="warning", operator=by or None)
            self._event(session, agent_id, "revoked", "notice", f"by {by}: {reason}")
            _changed(session)

    def suspect(self, agent_id: str, detail: str) -> bool:
        """Two live boots of one key: flag it until a person has looked; False when it was flagged before."""
        with self._ledger.write() as session:
            trust = _trust(session, agent_id)
            if trust.clone_ms:
                return False
            trust.clone_ms, trust.clone_detail = self._now_ms(), detail[:200]
            self._event(session, agent_id, "clone", "alarm", detail)
            announce(session, "devices.agent.cloned", agent_id, {"detail": detail}, now_ms=self._now_ms())
            _changed(session)
            return True

    def clear(self, agent_id: str, *, by: str) -> None:
        """A person has looked: only one box lives."""
        with self._ledger.write() as session:
            trust = _trust(session, agent_id)
            audit.record(session, "devices.agent.clear", at_ms=self._now_ms(), target=f"agents/{agent_id}", object_=f"agent/{agent_id}", before={"agent": agent_id, "clone_ms": trust.clone_ms},
                         after={"agent": agent_id, "clone_ms": None}, level="warning", operator=by or None)
            trust.clone_ms, trust.clone_detail = None, ""
            self._event(session, agent_id, "clone_cleared", "notice", f"by {by}")
            _changed(session)

    # -- reading ------------------------------------------------------------------------------------------------------

    def standing(self) -> dict[str, dict[str, Any]]:
        """Per agent: end of the newest usable certificate, hardware id, revocation, suspicion."""
        found: dict[str, dict[str, Any]] = {}
        with self._ledger.read() as session:
            for t in session.scalars(select(AgentTrust)):
                found[t.agent_id] = {"hardware_id": t.hardware_id, "revoked_ms": t.revoked_ms, "revoked_by": t.revoked_by, "revoked_reason": t.revoked_reason, "clone_ms": t.clone_ms,
                                     "clone_detail": t.clone_detail, "not_after_ms": None, "issued_ms": None}
            for c in session.scalars(select(AgentCertificate).where(AgentCertificate.state == "active")):
                mine = found.setdefault(c.agent_id, {})
                mine["not_after_ms"], mine["issued_ms"] = c.not_after_ms or None, c.issued_ms
        return found

    def events(self, agent_id: str | None = None, *, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first."""
        query = select(AgentEvent).order_by(AgentEvent.id.desc()).limit(limit)
        if agent_id is not None:
            query = query.where(AgentEvent.agent_id == agent_id)
        with self._ledger.read() as session:
            return [{"id": e.id, "at_ms": e.at_ms, "agent_id": e.agent_id, "kind": e.kind, "level": e.level, "detail": e.detail} for e in session.scalars(query)]

    def version(self) -> int:
        """Rises with every change of an agent's identity; one row is read."""
        with self._ledger.read() as session:
            return revision(session, AGENTS)

    def usable(self) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
        """(serials that may connect, by admitted agent that is not revoked; agents under suspicion)."""
        with self._ledger.read() as session:
            serials: dict[str, set[str]] = {}
            for agent_id, serial in session.execute(select(Agent.agent_id, Agent.certificate_serial).where(Agent.revoked.is_(False))):
                serials[agent_id] = {serial} if serial else set()
            for agent_id, serial in session.execute(select(AgentCertificate.agent_id, AgentCertificate.serial).where(AgentCertificate.state.in_(USABLE))):
                if agent_id in serials:
                    serials[agent_id].add(serial)
            return {a: frozenset(s) for a, s in serials.items()}, frozenset(session.scalars(select(AgentTrust.agent_id).where(AgentTrust.clone_ms.is_not(None))))

    def nats_revocations(self) -> dict[str, int]:
        """Public nkey of every revoked NATS agent, and the second up to which its JWTs are refused."""
        with self._ledger.read() as session:
            rows = session.execute(select(AgentTrust.nkey, AgentTrust.revoked_ms).join(Agent, Agent.agent_id == AgentTrust.agent_id).where(Agent.revoked, AgentTrust.nkey != ""))
            return {nkey: int((revoked_ms or self._now_ms()) // 1000 + 1) for nkey, revoked_ms in rows}

    def nkey(self, agent_id: str) -> str:
        """The NATS key an agent was admitted with."""
        with self._ledger.read() as session:
            return session.scalar(select(AgentTrust.nkey).where(AgentTrust.agent_id == agent_id)) or ""

    def _event(self, session: Session, agent_id: str, kind: str, level: str, detail: str) -> None:
        session.add(AgentEvent(at_ms=self._now_ms(), agent_id=agent_id, kind=kind, level=level, detail=detail[:300]))


def _changed(session: Session) -> None:
    bump(session, AGENTS)


def _trust(session: Session, agent_id: str) -> AgentTrust:
    row = session.get(AgentTrust, agent_id)
    if row is None:
        row = AgentTrust(agent_id=agent_id, hardware_id="", nkey="", revoked_by="", revoked_reason="", clone_detail="")
        session.add(row)
    return row


def _hash(token: str) -> str:
    return hashlib.sha256(token.strip().lower().encode()).hexdigest()


def _invitation(row: AgentInvitation) -> Invitation:
    return Invitation(row.id, row.agent_id, row.project_id, row.uplink, row.hardware_id, row.created_ms, row.created_by, row.expires_ms)


def _refuse(name: str, zh: str, en: str) -> RegistrationError:
    return RegistrationError(what="agent", name=name, reason_zh=zh, reason_en=en)
