"""One NATS account per zone on the real server: what crosses the border, what does not, and that nothing is lost or doubled while agents are revoked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.stack import Stack
from cloud.bus.connection import connect, tls_context
from cloud.bus.streams import ensure_results, ensure_stream
from cloud.core.settings import Settings
from cloud.security import nats_tokens
from cloud.security.authority import AuthorityClient
from cloud.security.nats_tokens import USER, NatsKey

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with Stack(tmp_path_factory.mktemp("zones"), only=("ca", "nats"), partitions=2) as running:
        yield running.settings


def seed(settings: Settings, account: str) -> NatsKey:
    """An account's own key, as only the CA process reads it."""
    return NatsKey.from_seed((settings.home / "pki" / f"nats-{account}.seed").read_bytes().strip())


@contextlib.asynccontextmanager
async def user(settings: Settings, account: NatsKey, token: str = "", key: NatsKey | None = None, inbox: str = "_INBOX") -> AsyncIterator[Client]:
    """A connection; without `token`, of a user that may do whatever its account may: the worst a stolen credential could be."""
    mine = key or NatsKey.make(USER)
    jwt = token or nats_tokens.user_jwt(account, mine.public, "anybody", issued_s=int(time.time()))
    here = settings.credentials

    async def quiet(_: Exception) -> None:
        return

    client = await nats.connect(settings.effective_nats_url, tls=tls_context(here / "edge-ca.pem", here / "platform-nats.pem", here / "platform-nats.key"), allow_reconnect=False, inbox_prefix=inbox,
                                error_cb=quiet, user_jwt_cb=lambda: bytearray(jwt.encode()), signature_cb=lambda nonce: base64.b64encode(mine.private.sign(nonce.encode())))
    try:
        yield client
    finally:
        await client.close()


async def heard(client: Client, subject: str) -> list[str]:
    """Subjects of what arrives from now on."""
    found: list[str] = []

    async def note(message: Msg) -> None:
        found.append(message.subject)

    await client.subscribe(subject, cb=note)
    await client.flush()
    return found


async def test_without_any_permission_to_hold_it_back_a_site_hears_only_what_is_for_sites_and_a_third_party_nothing(settings: Settings) -> None:
    platform = await connect(settings.effective_nats_url, settings.credentials, "test")
    async with user(settings, seed(settings, "monitoring")) as site, user(settings, seed(settings, "third")) as third:
        at_site, at_third, at_home = await heard(site, ">"), await heard(third, ">"), await heard(platform, ">")
        for subject in ("presence.1.a1", "event.1", "svc.control.submit", "alarm.own", "live.1", "audit.checkpoint", "tel.000.1.a1", "ctl.1.a1", "down.1.a1.ack"):
            await platform.publish(subject, b"x")
        await platform.flush()
        at_home.clear()
        for client in (site, third):
            for subject in ("presence.1.a1", "event.1", "svc.control.submit", "alarm.own", "live.1", "audit.checkpoint", "tel.000.1.a1", "up.1.a1.live", "up.1.a1.other"):
                await client.publish(subject, b"x")
            await client.flush()
            with pytest.raises((nats.errors.Error, TimeoutError)):
                await client.request("svc.control.time", b"", timeout=0.3)
            with pytest.raises((nats.errors.Error, TimeoutError)):
                await client.jetstream(timeout=0.3).account_info()
        assert [s for s in at_site if s.startswith("down.")] == ["down.1.a1.ack"]
        said = {"presence.1.a1", "event.1", "svc.control.submit", "alarm.own", "live.1", "audit.checkpoint", "tel.000.1.a1", "up.1.a1.live", "up.1.a1.other"}  # its own words come back to it
        assert {s for s in at_site if not s.startswith(("down.", "_INBOX.", "svc.control.time", "$JS."))} <= said
        assert len([s for s in at_site if s == "presence.1.a1"]) == 1
        assert len([s for s in at_third if s == "presence.1.a1"]) == 1
        assert not [s for s in at_third if s.startswith("down.")]
        assert [s for s in at_home if not s.startswith("_INBOX.")] == ["tel.000.1.a1", "up.1.a1.live"]  # from the site alone, and only what sites may say
    await platform.close()


async def test_batches_are_acknowledged_across_the_border_once_each_while_other_agents_are_revoked(settings: Settings) -> None:
    platform = await connect(settings.effective_nats_url, settings.credentials, "test")
    js = platform.jetstream()
    await ensure_stream(js, "TEL_001", "tel.001.>", max_bytes=16 << 20)
    await ensure_results(js)
    authority, key = AuthorityClient(settings.home), NatsKey.make(USER)
    token = authority.nats_user(key.public, 1, "a1", 1)
    async with user(settings, seed(settings, "monitoring"), token, key, "_INBOX.a1") as agent:
        stream, slots, doubled = agent.jetstream(timeout=1), asyncio.Semaphore(16), 0

        async def hand_over(number: int) -> None:
            nonlocal doubled
            async with slots:
                for _ in range(20):
                    with contextlib.suppress(nats.errors.Error, TimeoutError):
                        doubled += bool((await stream.publish("tel.001.1.a1", b"x" * 400, headers={"Nats-Msg-Id": f"a1:{number}"}, timeout=1)).duplicate)
                        return
            raise AssertionError(f"{number} was never acknowledged")

        async def revoke_others() -> None:
            for k in range(10):
                await asyncio.to_thread(authority.ask, "nats_revoke", revoked={NatsKey.make(USER).public: int(time.time())})
                await asyncio.sleep(0.02 * (k % 3))

        await asyncio.gather(revoke_others(), *(hand_over(k) for k in range(400)))
        assert (await js.stream_info("TEL_001")).state.messages == 400
        assert (await stream.publish("tel.001.1.a1", b"x", headers={"Nats-Msg-Id": "a1:7"})).duplicate, "the platform's window of duplicates holds across the border"
        assert (await stream.publish("ctl.1.a1", b"result")).stream == "CTL"

        async def obey(message: Msg) -> None:
            await message.respond(b"taken")

        await agent.subscribe("down.1.a1.command", cb=obey)
        await agent.flush()
        assert (await platform.request("down.1.a1.command", b"x", timeout=2)).data == b"taken"
        with pytest.raises(nats.errors.NoRespondersError):  # offline is told at once, not after a time-out
            await platform.request("down.1.a2.command", b"x", timeout=2)
        # Revoked itself, it is out.
        started = time.monotonic()
        await asyncio.to_thread(authority.ask, "nats_revoke", revoked={key.public: int(time.time())})
        async with asyncio.timeout(1):
            while agent.is_connected:  # noqa: ASYNC110 - the server cuts it
                await asyncio.sleep(0.002)
        assert time.monotonic() - started < 1.0
    with pytest.raises((nats.errors.Error, TimeoutError)):
        async with user(settings, seed(settings, "monitoring"), token, key):
            pass
    await platform.close()


async def test_a_box_admitted_before_the_zones_had_accounts_goes_on_until_its_day_ends_and_can_be_revoked(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "pki"
    folder.mkdir(parents=True, mode=0o700)
    before = NatsKey.make(nats_tokens.ACCOUNT)
    (folder / "nats-account.seed").write_bytes(before.seed)
    (folder / "nats-account.seed").chmod(0o600)
    with Stack(tmp_path / "home", only=("ca", "nats"), partitions=2) as old:
        key, now = NatsKey.make(USER), int(time.time())
        token = nats_tokens.user_jwt(before, key.public, "old", issued_s=now, expires_s=now + 3600, publish=["tel.000.1.old"], subscribe=["down.1.old.>", "_INBOX.old.>"])
        platform = await connect(old.settings.effective_nats_url, old.settings.credentials, "test")
        await ensure_stream(platform.jetstream(), "TEL_000", "tel.000.>", max_bytes=16 << 20)
        async with user(old.settings, before, token, key, "_INBOX.old") as box:
            assert (await box.jetstream().publish("tel.000.1.old", b"x")).stream == "TEL_000"
            await asyncio.to_thread(AuthorityClient(old.settings.home).ask, "nats_revoke", revoked={key.public: int(time.time())})
            async with asyncio.timeout(1):
                while box.is_connected:  # noqa: ASYNC110 - the server cuts it
                    await asyncio.sleep(0.002)
        await platform.close()
