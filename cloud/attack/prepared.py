"""Who knocks: a person of every role, people of one project, a provider whose contract is over; made in a local installation, or read from a file.

Must not know: what is tried.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud.attack import door
from cloud.attack.leavings import Leavings
from cloud.attack.rows import Row
from cloud.core.clock import now_ms
from cloud.core.settings import Settings
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.system.organisations import OrganisationService
from cloud.functions.system.sessions import SessionService
from cloud.ledger import open_ledger
from cloud.security.operations import Role


@dataclass
class People:
    """Those who knock.

    Attributes:
        code: gives a person's next one-time code.
        roles: role by person.
        outside: a project that is not theirs, by bounded person.
        outside_device: a device of it.
        agents: (project, agent) pairs known, for the edge link.
        projects: two projects, for an agent of one's own.
    """

    code: Callable[[str], str]
    roles: dict[str, str] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    outside_device: dict[str, int] = field(default_factory=dict)
    agents: list[tuple[int, str]] = field(default_factory=list)
    projects: tuple[int, ...] = ()


def read(file: Path) -> People:
    """From JSON: {"people": {name: {"role", "codes": [...], "outside_project", "outside_device"}}}; every sign-in takes a code."""
    document = json.loads(file.read_text())["people"]
    left: Mapping[str, list[str]] = {name: list(entry["codes"]) for name, entry in document.items()}
    found = People(lambda name: left[name].pop(0))
    for name, entry in document.items():
        if "outside_project" in entry:
            found.outside[name], found.outside_device[name] = int(entry["outside_project"]), int(entry.get("outside_device", 0))
        else:
            found.roles[name] = str(entry["role"])
    return found


@contextmanager
def local(settings: Settings, made: Leavings) -> Iterator[People]:
    """Made in this installation, under names nobody else has, and disabled at the end; `made` is told of all of it, to be removed."""
    ledger = open_ledger(settings.effective_ledger_url)
    sessions, directory, mark = SessionService(ledger), LedgerDirectory(ledger), secrets.token_hex(3)
    found = People(sessions.issue_code)
    projects = [p for p in directory.projects() if directory.devices(p.id)]
    try:
        for role in Role:
            name = f"attack-{role}-{mark}"
            scope: dict[str, Any] = {"project_ids": [projects[0].id] if projects else [0], "device_ids": [d.id for d in directory.devices(projects[0].id)[:1]] if projects else [0]} if role is Role.RESIDENT else {}
            sessions.register_user(name, name, [role], **scope)
            made.accounts.add(name)
            found.roles[name] = str(role)
        if len(projects) > 1:
            mine, other = projects[0], projects[1]
            organisations = OrganisationService(sessions, now_ms)
            over = organisations.register(f"attack-{mark}", "合同已到期的服务商", "A provider whose contract is over", "provider")
            organisations.contract(over, f"attack-{mark}", [other.id], 1, 2)
            elsewhere = organisations.register(f"attack-{mark}-b", "其他单位", "Another organisation", "provider")
            made.organisations |= {over, elsewhere}
            organisations.contract(elsewhere, f"attack-{mark}-b", [mine.id], 1, now_ms() + 86_400_000)
            bounded: tuple[tuple[str, dict[str, Any]], ...] = ((f"attack-one-project-{mark}", {"project_ids": [mine.id]}), (f"attack-ended-contract-{mark}", {"organisation_id": over}),
                                  (f"attack-other-organisation-{mark}", {"organisation_id": elsewhere}))
            for name, options in bounded:
                sessions.register_user(name, name, [Role.ENGINEER], **options)
                made.accounts.add(name)
                found.outside[name], found.outside_device[name] = other.id, directory.devices(other.id)[0].id
            resident = f"attack-{Role.RESIDENT}-{mark}"
            found.outside[resident], found.outside_device[resident] = other.id, directory.devices(other.id)[0].id
        found.projects = tuple(p.id for p in projects[:2])
        found.agents = [(a.project_id, a.agent_id) for a in directory.agents() if not a.revoked][:1]
        yield found
    finally:
        for name in made.accounts:
            sessions.disable_user(name)
        ledger.close()


def left_with(people: People) -> str:
    """What people who were lent are left with, and how to put it right."""
    bound = next((name for name, role in people.roles.items() if role == Role.DISPATCHER), None)
    return (f"{bound} now has a password and an authenticator nobody knows: reset the account on the People page. " if bound else "") + (
        "The one-time codes given were used; sessions opened with them end on the Sessions page, or by themselves. The audit log keeps the attempts.")


def tried(at: door.Door) -> list[Row]:
    """Everything at the portal's door."""
    engineer = next(name for name, role in at.roles.items() if role == Role.ENGINEER)
    return [*door.roles(at), *door.scopes(at), *door.sessions(at, engineer), *door.forgery(at, engineer), *door.tokens(at), *door.hostile(at, engineer), *door.factors(at, next(name for name, role in at.roles.items() if role == Role.DISPATCHER))]
