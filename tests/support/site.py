"""A whole portal over the fake ports and a real ledger: for API tests, browser tests and for looking at the pages.

`python -m tests.support.site PORT FOLDER` serves it and prints a sign-in link.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import FastAPI

from cloud.core.clock import now_ms
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.interfaces.answers import IdempotentAnswers
from cloud.functions.interfaces.clients import ClientService
from cloud.functions.services import regions_of
from cloud.functions.system.dialogue import DialogueService
from cloud.functions.system.journal import OperationJournal
from cloud.functions.system.people import people
from cloud.functions.system.sessions import SessionService
from cloud.ledger import Ledger, migrate, open_ledger
from cloud.portal import Services, create_app, operation_table
from cloud.security.operations import Role
from protos.points import BY_KEY
from tests.support import community
from tests.support.ports import FakeCommands, FakeHistorian, FakeLive, Plant

STATIC = Path(__file__).parents[2] / "cloud" / "portal" / "static"


NAMES = {Role.SYSTEM_ADMIN: "系统管理员", Role.SECURITY_ADMIN: "安全管理员", Role.AUDIT_ADMIN: "审计管理员", Role.OPERATOR: "值班员", Role.ENGINEER: "工程师", Role.DISPATCHER: "调度员",
         Role.FINANCE: "财务", Role.SERVICE: "客服", Role.GRID_DISPATCHER: "电网调度员", Role.RESIDENT: "住户"}


@dataclass
class Site:
    """The portal and what it is made of."""

    app: FastAPI
    ledger: Ledger
    directory: LedgerDirectory
    historian: FakeHistorian
    live: FakeLive
    commands: FakeCommands
    sessions: SessionService
    journal: OperationJournal
    projects: dict[str, int]
    clients: ClientService

    def device(self, project: str, code: str) -> int:
        """Device id by codes."""
        return next(d.id for d in self.directory.devices(self.projects[project]) if d.code == code)


def build(ledger: Ledger, *, now: Any = now_ms, step_s: float = 0.0, period_s: float = 2.0, **options: Any) -> Site:
    """Put everything together, with one user per role, called like the role."""
    directory = LedgerDirectory(ledger)
    projects = {p.code: p.id for p in directory.projects()} or community.register(ledger)
    directory.refresh()
    plant = Plant(directory)
    live = FakeLive(plant, now, period_s=period_s)
    historian, commands = FakeHistorian(plant, now), FakeCommands(live, now, step_s=step_s)
    sessions, journal = SessionService(ledger, now, password_days=90, regions_of=regions_of(directory)), OperationJournal(ledger, now)
    rooms = [d.id for d in directory.devices(projects["cuihu"]) if d.code in ("H0101", "H0102")]
    for role in Role:
        scope: dict[str, Any] = {"project_ids": [projects["cuihu"]], "device_ids": rooms} if role is Role.RESIDENT else {}
        sessions.register_user(str(role), NAMES[role], [role], **scope)
    sessions.register_user("auditor", "审计员", [Role.AUDIT_ADMIN])
    key = Ed25519PrivateKey.generate()
    options = {"clients": ClientService(ledger, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), operation_table, now), "answers": IdempotentAnswers(ledger, now), "dialogue": DialogueService(ledger, now), **options}
    app = create_app(Services(directory, historian, commands, live, sessions, journal, people(sessions, secrets.token_bytes(32), now), now=now, **options))
    return Site(app, ledger, directory, historian, live, commands, sessions, journal, projects, options["clients"])


def furnish(site: Site) -> None:
    """Alarms, a silent agent, a lockout, holders, quarantine: something on every page."""
    device, now = site.device, site.historian.now
    site.historian.raise_alarm(device("cuihu", "EB2"), "low_water", 340, value=1)
    site.historian.raise_alarm(device("yanqi", "HP3"), "fault", 5400, value=12)
    for k in range(1, 9):
        site.historian.raise_alarm(device("liulin", f"H{1 + k // 4:02d}{1 + k % 4:02d}"), "leakage", 900 + 7 * k, cleared_s=300 if k > 5 else None, value=1)
    site.historian.aged[device("beishan", "HM3")] = 5_400_000
    site.live.offline.add("edge-beishan")
    site.live.device_states[device("yanqi", "HP2")] = {"locked_out": True, "lockout_holder": "王师傅", "lockout_reason": "更换压缩机"}
    site.live.device_states[device("cuihu", "EB1")] = {"holders": [{
        "point_id": BY_KEY["leaving_temp_setpoint"].id, "authority": 5, "value": 55.0, "until_ms": now() + 5_400_000, "holder": "engineer", "reason": "夜间蓄热", "command_id": ""}]}
    site.live.device_states[device("cuihu", "H0203")] = {"online": False, "error_code": "E-MODBUS-TIMEOUT", "last_ok_ms": now() - 8_000_000}
    for k, (reason, detail) in enumerate((("clock", "1970-01-01T00:03:11Z"), ("range", "device 9999 unknown"), ("signature", ""))):
        site.historian.quarantine_rows.append({
            "id": f"q{k}", "project_id": site.projects["beishan"], "agent_id": "edge-beishan", "reason": reason, "detail": detail, "rows": 120 + k,
            "received_ms": now() - 3_600_000 * (k + 1), "state": "held" if k < 2 else "discarded"})


def main() -> None:
    """Serve it."""
    import uvicorn

    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    migrate(ledger)
    site = build(ledger, step_s=0.7, static=STATIC, demo=True)
    furnish(site)
    for role in ("engineer", "operator", "auditor", "resident"):
        print(f"http://127.0.0.1:{port}/signin?code={site.sessions.issue_code(role, valid_s=86400)}", flush=True)
    (folder / "code").write_text(site.sessions.issue_code("engineer", valid_s=86400))
    uvicorn.run(site.app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
