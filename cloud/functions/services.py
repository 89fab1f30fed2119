"""What the functions' routers get from the composition root: the ports and the ledger's services, in one frozen record.

Must not know: Ray, NATS, engines, how any of it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request

from cloud.core.admission import Gate
from cloud.core.clock import now_ms
from cloud.core.ports import CommandBus, DeviceInfo, Flows, Historian, Live, ProjectInfo
from cloud.functions.devices.agents_identities import Identities
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.interfaces.answers import IdempotentAnswers
from cloud.functions.interfaces.clients import Certify, ClientService
from cloud.functions.remote_control.batches import Limits
from cloud.functions.remote_control.effect import Effects
from cloud.functions.system.attempts import Attempts
from cloud.functions.system.audit_desk import AuditDesk
from cloud.functions.system.dialogue import DialogueService
from cloud.functions.system.journal import OperationJournal
from cloud.functions.system.oidc import Provider
from cloud.functions.system.people import People
from cloud.functions.system.sessions import SessionService
from cloud.security.guard import NotFoundError
from cloud.security.operations import Principal


@dataclass(frozen=True)
class Services:
    """Everything the portal needs.

    Attributes:
        clients: external clients, None = people only.
        answers: answers kept for idempotency keys.
        certify: asks the certificate authority for external systems' certificates, None = there is none.
        identities: agents' identities, None = without the certificate authority.
        audit: verification and health of the audit chain.
        flows: network records.
        dialogue: messages and questions between platform and sites.
        note: takes one network record, None = none are kept.
        admission: the gate of this process, None = one of the usual size.
        effects: predicts what commands do to rooms and bill, None = nobody can tell.
        limits: from what on a batch needs a second person.
        secure: True behind https: cookies are `__Host-` and Secure.
        static: folder of the built pages, None = API only.
        provider: an organisation's own identity provider, None = people sign in here.
        version: shown on the page.
        timezone: zone of pages that show several projects.
        demo: True when the plants are simulated; the page says so.
        now: UTC milliseconds.
    """

    directory: LedgerDirectory
    historian: Historian
    commands: CommandBus
    live: Live
    sessions: SessionService
    journal: OperationJournal
    people: People
    clients: ClientService | None = None
    answers: IdempotentAnswers | None = None
    audit: AuditDesk | None = None
    identities: Identities | None = None
    certify: Certify | None = None
    flows: Flows | None = None
    provider: Provider | None = None
    dialogue: DialogueService | None = None
    note: Callable[[Any], None] | None = None
    admission: Gate | None = None
    effects: Effects | None = None
    limits: Limits = field(default_factory=Limits)
    secure: bool = False
    static: Path | None = None
    version: str = "0.1.0"
    demo: bool = False
    timezone: str = "Asia/Shanghai"
    now: Callable[[], int] = field(default=now_ms)
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        """Count wrong sign-in codes by the same clock."""
        object.__setattr__(self, "attempts", Attempts(self.now))

    def project(self, principal: Principal, project_id: int) -> ProjectInfo:
        """A project in the principal's scope.

        Raises:
            NotFoundError: unknown, or out of scope.
        """
        project = self.directory.project(project_id)
        if project is None or not principal.sees_project(project_id):
            raise NotFoundError(what="project", name=project_id)
        return project

    def device(self, principal: Principal, device_id: int) -> DeviceInfo:
        """A device in the principal's scope.

        Raises:
            NotFoundError: unknown, or out of scope.
        """
        device = self.directory.device(device_id)
        if device is None or not principal.sees_device(device.project_id, device_id):
            raise NotFoundError(what="device", name=device_id)
        return device

    def projects(self, principal: Principal) -> list[ProjectInfo]:
        """Projects in scope."""
        return [p for p in self.directory.projects() if principal.sees_project(p.id)]

    def devices(self, principal: Principal, project_id: int) -> list[DeviceInfo]:
        """Devices of a project in scope."""
        return [d for d in self.directory.devices(project_id) if principal.sees_device(project_id, d.id)]


def regions_of(directory: LedgerDirectory) -> Callable[[int], frozenset[str]]:
    """Gives the codes of a project's region and of those above it."""

    def ask(project_id: int) -> frozenset[str]:
        project, parents = directory.project(project_id), {r.code: r.parent for r in directory.regions()}
        found: set[str] = set()
        code = project.region if project else None
        while code is not None and code not in found:
            found.add(code)
            code = parents.get(code)
        return frozenset(found)

    return ask


def services(request: Request) -> Services:
    """The services of this app."""
    found: Services = request.app.state.services
    return found
