"""An attack takes away what it made: accounts, organisations, clients, agents; nothing else, and never the log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from cloud.attack import prepared
from cloud.attack.leavings import Leavings
from cloud.core.settings import load
from cloud.functions.devices.agents_service import AgentService, BoxKeys
from cloud.functions.system.people_tables import Approval
from cloud.functions.system.sessions import SessionService
from cloud.functions.system.tables import User
from cloud.ledger import Base, Ledger, open_ledger
from cloud.security.operations import Role
from tests.support import community

KEPT = {"operation_log", "audit_link", "outbox", "revision"}


def held(ledger: Ledger) -> dict[str, int]:
    """Rows by table."""
    with ledger.read() as session:
        return {t.name: int(session.execute(text(f'SELECT count(*) FROM "{t.name}"')).scalar_one()) for t in Base.metadata.sorted_tables}


@pytest.fixture
def home(migrated: Path, tmp_path: Path) -> Path:
    settings = load(tmp_path)
    place = Path(settings.effective_ledger_url.removeprefix("sqlite:///"))
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(migrated, place)
    ledger = open_ledger(settings.effective_ledger_url)
    community.register(ledger)
    SessionService(ledger).register_user("somebody", "Somebody", [Role.OPERATOR])
    ledger.close()
    return tmp_path


def test_nothing_is_left_but_the_log(home: Path) -> None:
    settings, made = load(home), Leavings()
    ledger = open_ledger(settings.effective_ledger_url)
    before = held(ledger)
    with prepared.local(settings, made) as people:
        people.code(next(iter(people.roles)))
        agents = AgentService(ledger)
        agents.admit("attack-box", people.projects[0], BoxKeys(b"s" * 32, b"b" * 32), uplink="grpc", serial="ab", not_after_ms=1 << 41)
        made.agents.add("attack-box")
        agents.revoke("attack-box", by="test", reason="test")
    assert len(made.accounts) >= 13
    during = held(ledger)
    assert during["user_account"] == before["user_account"] + len(made.accounts) and during["organisation"] == before["organisation"] + 2
    said = made.clear(ledger)
    assert f"{len(made.accounts)} accounts, 2 organisations, 1 agents" in said and "left behind" not in said
    after = held(ledger)
    assert {t: n for t, n in after.items() if t not in KEPT} == {t: n for t, n in before.items() if t not in KEPT}
    assert after["operation_log"] > during["operation_log"]
    assert "attack-box" not in AgentService(ledger).usable()[0]
    ledger.close()


def test_what_others_records_refer_to_stays_and_is_named(home: Path) -> None:
    settings, made = load(home), Leavings()
    ledger = open_ledger(settings.effective_ledger_url)
    with prepared.local(settings, made):
        pass
    name = min(made.accounts)
    with ledger.write() as session:
        ids = {row.name: row.id for row in session.query(User).all()}
        session.add(Approval(id="a", operation="o", target="", payload="", digest="", reason="", requester_id=ids["somebody"], created_ms=0, deadline_ms=0, state="refused", decided_by_id=ids[name]))
    assert name in made.clear(ledger)
    with ledger.read() as session:
        left = {row.name: row.disabled for row in session.query(User).all()}
    assert left[name] and not made.accounts - {name} & set(left)
    assert not left["somebody"]
    ledger.close()


def test_people_who_were_lent_are_named_with_what_to_do() -> None:
    said = prepared.left_with(prepared.People(lambda name: name, roles={"lin": "dispatcher"}))
    assert "lin" in said and "People page" in said
