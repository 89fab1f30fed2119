"""Agents' identities on the running platform: enrolment, refusals, renewal under way, revocation of what is live. Real TLS, gRPC and NATS."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.stack import Stack
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.service import DeviceService, NewProject
from cloud.installation import admit
from cloud.ledger import Ledger, open_ledger
from cloud.security import certificates
from cloud.security.authority import AuthorityClient, AuthorityRefusedError
from cloud.security.certificates import Pki, make_request
from edge_agent import enrolment, host, keygen
from edge_agent.agent import Agent
from edge_agent.config import Site, Uplink, load_credentials
from edge_agent.enrolment import EnrolError, enrol
from edge_agent.renewal import adopt, resume
from protos import envelope, subjects, suites
from protos.batch import Reading
from protos.kang.v1 import link_pb2, link_pb2_grpc, telemetry_pb2
from protos.suites import Suite

pytestmark = pytest.mark.slow


class Platform:
    def __init__(self, home: Path) -> None:
        self.stack = Stack(home, only=("ca", "nats", "control", "gateway"), heartbeat_s=1, partitions=2)
        self.settings = self.stack.settings
        self.ledger: Ledger = open_ledger(self.settings.effective_ledger_url)
        devices = DeviceService(self.ledger)
        devices.register_region("r", "区", "Region")
        self.project = devices.register_project(NewProject("p", "项目", "Project", "r", 40.0, 116.0, 1000.0, "heat_pump"))
        self.other = devices.register_project(NewProject("q", "乙", "Other", "r", 40.0, 116.0, 1000.0, "heat_pump"))
        self.agents = AgentService(self.ledger)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.settings.enrolment_port}"

    def anchor(self) -> str:
        return str(AuthorityClient(self.settings.home).status()["anchor_fingerprint"])

    def invited(self, name: str, folder: Path, uplink: str = "grpc") -> Any:
        token, _ = self.agents.invite(name, self.project, uplink=uplink)
        return enrol(self.url, token, self.anchor(), folder)

    def site(self, name: str, folder: Path, uplink: str = "grpc") -> Site:
        where = Uplink("grpc", address=f"127.0.0.1:{self.settings.gateway_port}") if uplink == "grpc" else Uplink("nats", url=self.settings.effective_nats_url)
        return Site(self.project, name, 2, folder.parent / f"{name}-state", folder, where, {}, {}, heartbeat_s=1)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    made = Platform(tmp_path_factory.mktemp("agents"))
    with made.stack:
        yield made
    made.ledger.close()


async def until(question: Any, seconds: float = 20.0) -> float:
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < seconds, "not in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def dial(platform: Platform, *, roots: bytes, key: bytes | None, chain: bytes | None, project: int, agent: str) -> str:
    """What the gateway says to a first heartbeat: "welcome", or the status of its refusal."""
    credentials = grpc.ssl_channel_credentials(roots, key, chain)
    async with grpc.aio.secure_channel(f"127.0.0.1:{platform.settings.gateway_port}", credentials, options=[("grpc.ssl_target_name_override", "kang-gateway"), ("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = link_pb2_grpc.EdgeLinkStub(channel).Connect(timeout=6)
        try:
            await call.write(link_pb2.Up(heartbeat=telemetry_pb2.Heartbeat(project_id=project, agent_id=agent, epoch=bytes(16), boot_id=os.urandom(16), challenge=os.urandom(12))))
            first = await call.read()
            return str(first.WhichOneof("body")) if isinstance(first, link_pb2.Down) else (await call.code()).name
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return str((await call.code()).name)
        finally:
            call.cancel()


def pems(folder: Path) -> dict[str, bytes]:
    return {"roots": (folder / "zone-ca.pem").read_bytes(), "key": (folder / "agent.key").read_bytes(), "chain": (folder / "agent.pem").read_bytes()}


async def test_a_box_enrols_with_a_token_and_connects(platform, tmp_path):
    folder = tmp_path / "credentials"
    site = await platform.invited("enrol-1", folder)
    assert (site["agent_id"], site["project_id"], site["uplink"]["address"]) == ("enrol-1", platform.project, f"127.0.0.1:{platform.settings.gateway_port}")
    assert all(stat.S_IMODE((folder / n).stat().st_mode) == 0o600 for n in ("agent.key", "agent.ed25519", "agent.x25519"))
    await asyncio.sleep(0.5)
    assert await dial(platform, **pems(folder), project=platform.project, agent="enrol-1") == "welcome"


async def test_a_token_cannot_be_used_twice_and_another_platform_is_noticed(platform, tmp_path):
    token, _ = platform.agents.invite("enrol-2", platform.project)
    with pytest.raises(EnrolError, match="fingerprint"):
        await enrol(platform.url, token, "ab" * 32, tmp_path / "a")
    await enrol(platform.url, token, platform.anchor(), tmp_path / "b")
    with pytest.raises(EnrolError, match="E-ENROL"):
        await enrol(platform.url, token, platform.anchor(), tmp_path / "c")


async def until_welcome(platform, mine, agent, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (found := await dial(platform, **mine, project=platform.project, agent=agent)) != "welcome":
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.3)


async def test_forbidden_certificates_do_not_get_in(platform, tmp_path):
    """0 accepted: no certificate, a rogue CA, another zone's, another agent's, another project's, a server's."""
    folder = tmp_path / "credentials"
    await platform.invited("strict-1", folder)
    mine, home = pems(folder), platform.settings.home
    # The gateway learns of a new box by looking; on a busy machine that may take a moment.
    await until_welcome(platform, mine, "strict-1")
    name = subjects.agent_identity(platform.project, "strict-1")
    rogue = Pki(tmp_path / "rogue", tmp_path / "rogue-credentials")
    rogue.prepare()
    key, request = make_request("x")
    pem = certificates.key_pem(key)
    authority = AuthorityClient(home)
    forbidden = {
        "no certificate": {"key": None, "chain": None}, "rogue CA": {"key": pem, "chain": rogue.zones["edge"].client(request, name)[0]},
        "third zone": {"key": pem, "chain": authority.client(request, "third", "strict-1").chain}, "platform zone": {"key": pem, "chain": authority.client(request, "platform", "strict-1").chain},
        "another agent": {"key": pem, "chain": authority.agent(request, platform.project, "other-agent").chain}, "another project": {"key": pem, "chain": authority.agent(request, platform.other, "strict-1").chain},
        "issued to nobody the ledger knows": {"key": pem, "chain": authority.agent(request, platform.project, "strict-1").chain},
    }
    accepted = [what for what, files in forbidden.items() if await dial(platform, roots=mine["roots"], **files, project=platform.project, agent="strict-1") == "welcome"]
    assert accepted == []
    await until_welcome(platform, mine, "strict-1")
    assert await dial(platform, **mine, project=platform.other, agent="strict-1") == "PERMISSION_DENIED"


async def test_a_certificate_that_has_ended_is_refused_and_the_box_renews_in_grace(platform, tmp_path):
    folder = tmp_path / "credentials"
    await platform.invited("grace-1", folder)
    issued = AuthorityClient(platform.settings.home).agent(keygen.request_for(certificates._load_key((folder / "agent.key").read_bytes())), platform.project, "grace-1", life_s=1)
    platform.agents.renew("grace-1", signing=load_credentials(folder).signing.public_key().public_bytes_raw(), nkey="", serial=issued.serial, not_after_ms=issued.not_after_ms, grace=False)
    platform.agents.confirm("grace-1", issued.serial, {})
    (folder / "agent.pem").write_bytes(issued.chain)
    await until(lambda: time.time() * 1000 > issued.not_after_ms + 1100)
    assert await dial(platform, **pems(folder), project=platform.project, agent="grace-1") != "welcome"
    agent = Agent(platform.site("grace-1", folder), load_credentials(folder), units=lambda _: {})
    await agent.renewal.renew()
    await asyncio.sleep(0.5)
    assert await dial(platform, **pems(folder), project=platform.project, agent="grace-1") == "welcome"
    assert "grace_renewal" in [e["kind"] for e in platform.agents.events("grace-1")]


@pytest.mark.parametrize("uplink", ["grpc", "nats"])
async def test_a_live_session_is_cut_within_a_second_of_its_revocation_and_stays_out(platform, tmp_path, uplink):
    folder, name = tmp_path / "credentials", f"cut-{uplink}"
    await platform.invited(name, folder, uplink)
    await asyncio.sleep(0.5)
    agent = Agent(platform.site(name, folder, uplink), load_credentials(folder), units=lambda _: {})
    running = asyncio.create_task(agent.run())
    try:
        await until(lambda: agent.link.up)
        platform.agents.revoke(name, by="test", reason="stolen")
        took = await until(lambda: not agent.link.up)
        assert took < 1.0
        connections = agent.link.counts["connections"]
        await asyncio.sleep(3)
        assert (agent.link.up, agent.link.counts["connections"]) == (False, connections)
        with pytest.raises(EnrolError, match="E-ENROL"):
            await agent.renewal.renew()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_renewal_under_way_changes_key_and_certificate_and_keeps_what_is_spooled(platform, tmp_path):
    folder = tmp_path / "credentials"
    await platform.invited("renew-1", folder)
    before = pems(folder)
    credentials = load_credentials(folder)
    agent = Agent(platform.site("renew-1", folder), credentials, units=lambda _: {})
    agent.spool.append([Reading(1, 1, 1_780_000_000_000, 1.0)], now_ms=1_780_000_000_000, boot_id=bytes(16), monotonic_ms=0)
    await agent.renewal.renew()
    agent.spool.append([Reading(1, 1, 1_780_000_001_000, 2.0)], now_ms=1_780_000_001_000, boot_id=bytes(16), monotonic_ms=0)
    after = load_credentials(folder)
    identity = subjects.agent_identity(platform.project, "renew-1")
    for sequence, key in ((1, credentials.signing), (2, after.signing)):
        signed = agent.spool.get(sequence)
        envelope.Opened(envelope.Header.unpack(signed.header), signed).verify(key.public_key(), identity)
    assert after.signing.public_key() != credentials.signing.public_key()
    assert not (folder / "next").exists()
    assert not (folder / "confirm.json").exists()
    await asyncio.sleep(0.5)
    assert await dial(platform, **before, project=platform.project, agent="renew-1") == "PERMISSION_DENIED"
    assert await dial(platform, **pems(folder), project=platform.project, agent="renew-1") == "welcome"


async def test_a_box_of_suite_sm_enrols_is_told_the_time_and_renews_in_its_suite_and_never_in_the_other(platform, tmp_path):
    folder = tmp_path / "credentials"
    token, _ = platform.agents.invite("sm-1", platform.project)
    site = await enrol(platform.url, token, platform.anchor(), folder, Suite.SM)
    assert site["suite"] == "sm"
    credentials = load_credentials(folder)
    assert {suites.suite_of(k) for k in (credentials.signing, credentials.box, credentials.command_signing, credentials.audit_signing)} == {Suite.SM}
    running = replace(platform.site("sm-1", folder), suite=Suite.SM, clock="platform")
    agent = Agent(running, credentials, units=lambda _: {})
    agent.spool.append([Reading(1, 1, 1_780_000_000_000, 1.0)], now_ms=1_780_000_000_000, boot_id=bytes(16), monotonic_ms=0)
    work = asyncio.create_task(agent.run())
    try:
        await until(lambda: agent.clock.source == "platform")
        assert agent.clock.rejected == 0
        await agent.renewal.renew()
        after = load_credentials(folder)
        assert after.suite is Suite.SM
        assert after.signing != credentials.signing
        assert not (folder / "agent.ed25519").exists()
        await until(lambda: LedgerDirectory(platform.ledger, refresh_s=0).agent("sm-1").signing_public == suites.raw_public(after.signing))
        old = folder / "agent-sign.sm2"
        keep = old.read_bytes()
        old.unlink()
        enrolment.write(folder / "agent.ed25519", os.urandom(32))  # somebody who holds the box asks for a key of the other suite
        with pytest.raises(EnrolError, match="E-ENROL"):
            await agent.renewal.renew()
        (folder / "agent.ed25519").unlink()
        enrolment.write(old, keep)
        assert LedgerDirectory(platform.ledger).agent("sm-1").suite is Suite.SM
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_crash_at_any_step_of_the_change_is_finished_at_the_next_start(tmp_path):
    """The files of the change, stopped after each step: what starts next has one matching set, and the number where the key changed."""
    names = ("agent.ed25519", "agent.key", "agent.pem", "zone-ca.pem")
    for steps in range(len(names) + 1):
        folder = tmp_path / f"after-{steps}"
        (folder / "next").mkdir(parents=True)
        for name in names:
            enrolment.write(folder / name, b"old " + name.encode())
            enrolment.write(folder / "next" / name, b"new " + name.encode())
        enrolment.write(folder / "next" / "changed.json", json.dumps({"batch": ["00" * 16, 7]}).encode())
        for name in names[:steps]:
            (folder / "next" / name).replace(folder / name)
        resume(folder)
        assert [(folder / n).read_bytes() for n in names] == [b"new " + n.encode() for n in names]
        assert json.loads((folder / "confirm.json").read_text())["batch"][1] == 7
        assert not (folder / "next").exists()
    untouched = tmp_path / "before-the-number"
    (untouched / "next").mkdir(parents=True)
    enrolment.write(untouched / "agent.key", b"old")
    enrolment.write(untouched / "next" / "agent.key", b"new")
    resume(untouched)
    assert (untouched / "agent.key").read_bytes() == b"old"
    enrolment.write(untouched / "next" / "changed.json", b"{}")
    adopt(untouched)
    assert (untouched / "agent.key").read_bytes() == b"new"


async def test_two_live_boots_of_one_key_are_flagged_and_the_newest_gets_no_control(platform, tmp_path):
    folder = tmp_path / "credentials"
    await platform.invited("clone-1", folder)
    await asyncio.sleep(0.5)
    first = Agent(platform.site("clone-1", folder), load_credentials(folder), units=lambda _: {})
    second = Agent(replace(platform.site("clone-1", folder), state_dir=tmp_path / "stolen"), load_credentials(folder), units=lambda _: {})
    second.boot_id = os.urandom(16)
    running = [asyncio.create_task(first.run())]
    try:
        await until(lambda: first.link.up)
        running.append(asyncio.create_task(second.run()))
        await until(lambda: any(e["kind"] == "clone" and e["level"] == "alarm" for e in platform.agents.events("clone-1")), 40)
        assert "clone-1" in platform.agents.usable()[1]
        assert platform.agents.standing()["clone-1"]["clone_ms"]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_nats_agent_may_use_only_its_own_subjects(platform, tmp_path):
    request = keygen.make(tmp_path / "credentials")
    for name, data in admit(platform.settings, request.read_bytes(), agent_id="narrow-1", project_id=platform.project, uplink="nats").files.items():
        (tmp_path / "credentials" / name).write_bytes(data)
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    folder = tmp_path / "credentials"
    context = ssl.create_default_context(cafile=folder / "zone-ca.pem")
    context.load_cert_chain(folder / "agent.pem", folder / "agent.key")
    client = await nats.connect(platform.settings.effective_nats_url, tls=context, inbox_prefix="_INBOX.narrow-1", error_cb=note, nkeys_seed=str(folder / "nats.seed"),
                                user_jwt_cb=lambda: bytearray((folder / "nats.jwt").read_bytes()))
    forbidden = ["tel.000.1.other", f"tel.001.{platform.project}.narrow-2", "presence.1.x", "svc.control.submit", "$JS.API.STREAM.DELETE.TEL_000", "$SYS.REQ.CLAIMS.UPDATE", "event.1", f"down.{platform.project}.other.command"]
    for subject in forbidden:
        await client.publish(subject, b"x")
    for subject in (">", "tel.>", "down.>", f"down.{platform.project}.other.command", "_INBOX.>"):
        await client.subscribe(subject)
    await client.flush()
    await until(lambda: len(errors) >= len(forbidden) + 5, 5)
    await client.close()


async def test_the_ca_signs_nothing_it_should_not(platform):
    authority = AuthorityClient(platform.settings.home)
    _, request = make_request("x")
    csr = request.decode()
    for op, fields in (("agent", {"csr": csr, "project_id": 1, "agent_id": "a/../b"}), ("agent", {"csr": "rubbish", "project_id": 1, "agent_id": "a"}), ("agent", {"csr": csr, "project_id": 1, "agent_id": "a", "life_s": 10**9}),
                       ("client", {"csr": csr, "zone": "edge", "name": "kang-gateway"}), ("nats_user", {"nkey": "AAAA", "project_id": 1, "agent_id": "a", "partition": 0}), ("nothing", {}),
                       ("renew_zone", {"zone": "edge", "passphrase": "guess"})):
        with pytest.raises(AuthorityRefusedError):
            authority.ask(op, **fields)


async def test_bad_calls_to_the_listener_are_refused_with_a_code_and_counted_out(platform):
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    where = enrolment.Platform("127.0.0.1", platform.settings.enrolment_port)
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    for path, body in (("/v1/enrol", {}), ("/v1/enrol", {"token": 5, "hardware_id": ""}), ("/v1/enrol", {"token": "x", "hardware_id": host.hardware_id(), "signing_public": key}), ("/v1/renew", {"certificate": "", "request": "", "signature": ""}),
                       ("/v1/confirm", {}), ("/v1/session", {}), ("/v1/nothing", {}), ("/v1/enrol", {"token": "x" * 70_000})):
        with pytest.raises(EnrolError, match=r"E-ENROL|length|reset|Errno"):
            await where.ask(path, body, blind)
    codes = []
    for _ in range(30):
        with pytest.raises(EnrolError) as refused:
            await where.ask("/v1/session", {}, blind)
        codes.append(refused.value.values["status"])
    assert 429 in codes
