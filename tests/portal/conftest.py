"""A portal over the fake ports and a real ledger, spoken to through ASGI."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.ledger import Ledger, open_ledger
from tests.support.site import Site, build

SignIn = Callable[[str], Awaitable[httpx.AsyncClient]]


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ms = 1_795_500_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def furnished(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger file with the communities registered, to copy."""
    file = tmp_path_factory.mktemp("community") / "community.db"
    shutil.copy(migrated, file)
    opened = open_ledger(f"sqlite:///{file}")
    build(opened)
    opened.close()
    return file


@pytest.fixture
def ledger(furnished: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A real ledger with the communities registered."""
    shutil.copy(furnished, tmp_path / "ledger.db")
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


@pytest.fixture
def site(ledger: Ledger, clock: Clock) -> Site:
    return build(ledger, now=clock, period_s=0.05)


@pytest.fixture
async def sign_in(site: Site) -> AsyncIterator[SignIn]:
    """Gives a client of a user; its changes carry the session's token."""
    clients: list[httpx.AsyncClient] = []

    async def act(name: str, **options: Any) -> httpx.AsyncClient:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(site.app, raise_app_exceptions=False), base_url="http://portal.test/api/v1/", **options)
        clients.append(client)
        if name:
            answer = await client.post("session", json={"code": site.sessions.issue_code(name)})
            assert answer.status_code == 200, answer.text
            client.headers["X-Kang-CSRF"] = answer.json()["csrf"]
        return client

    yield act
    for client in clients:
        await client.aclose()
