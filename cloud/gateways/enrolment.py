"""The enrolment listener: a box's first certificate by token, its next ones by the certificate it has, its NATS token for a day.

HTTPS with a handful of fixed questions, JSON in and out. A box that has a valid certificate shows it (mutual TLS); one whose certificate ended
within the grace sends it along and signs with its key. Must not know: what agents measure, who sits at the portal.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.sslproto
import contextlib
import datetime as dt
import hashlib
import json
import logging
import signal
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.ports import ProjectDirectory
from cloud.core.settings import Settings, load
from cloud.functions.devices.agents_service import AgentService, BoxKeys, renewal_refused, token_refused
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.service import one_suite
from cloud.gateways.flows import ZONE, Note, ignore
from cloud.historian.client import ClickHouse
from cloud.historian.flow import Flow, FlowLog
from cloud.ledger import open_ledger
from cloud.runtime.placement import partition_for
from cloud.security import keys
from cloud.security.authority import AuthorityClient
from cloud.security.certificates import GRACE
from cloud.security.tls import server_context
from protos import subjects
from protos.errors import KangError
from protos.sm2 import Sm2MissingError
from protos.suites import Suite, raw_public, suite_of_public, verifying_key

log = logging.getLogger("kang.enrolment")
MAX_HEAD, MAX_BODY, CONNECTIONS, TIMEOUT_S = 8 << 10, 64 << 10, 32, 10
#: What a TLS session reads at once; asyncio's own 256 kB for every connection would be most of this process's memory when a fleet comes at once.
TLS_BUFFER: Final = 32 << 10
#: TLS sessions at once; whoever comes meanwhile waits before its handshake, for PATIENCE_S, and WAITING of them at most.
SESSIONS: Final = 256
WAITING: Final = 2048
PATIENCE_S: Final = 4.0
#: Refusals an address may collect in a minute before it has to wait.
REFUSALS: Final = 20


class InputError(KangError):
    """A request of a box cannot be read."""

    code = "E-ENROL-INPUT"
    zh = "请求格式不正确：{problem}。请升级 kang-edge 后重试。"
    en = "The request cannot be read: {problem}. Upgrade kang-edge and try again."


class WaitError(KangError):
    """Too many refusals from one address."""

    code = "E-ENROL-WAIT"
    zh = "该地址失败次数过多，请一分钟后再试。"
    en = "Too many refusals from this address. Try again in a minute."


def platform_facts(settings: Settings, suite: Suite) -> dict[str, Any]:
    """What a box keeps of its platform (platform.json): public keys of its own suite.

    Raises:
        Sm2MissingError: suite SM, and this platform's machine has no SM2.
    """
    boxes = keys.box_keys(settings.credentials, "telemetry")
    if suite not in boxes:
        raise Sm2MissingError(problem="of the platform")
    return {"telemetry_box": raw_public(boxes[suite]).hex(), "command_signing": _published(settings, "command", suite), "audit_signing": _published(settings, "audit", suite),
            "gateway_name": "kang-gateway",
            "enrolment": {"host": settings.reached_at, "port": settings.enrolment_port}}


def _published(settings: Settings, name: str, suite: Suite) -> str:
    return (settings.credentials / f"{name}.{keys.PUBLIC[suite]}").read_bytes().hex()


class Door:
    """Lets a bounded number of callers begin TLS; the others wait as bare sockets, and are hung up on when it takes longer than they would wait."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], context: ssl.SSLContext, counters: dict[str, int], *, sessions: int = SESSIONS, waiting: int = WAITING,
                 patience_s: float = PATIENCE_S) -> None:
        self._serve, self._context, self._counters, self._waiting, self._patience_s = serve, context, counters, waiting, patience_s
        self._sessions = asyncio.Semaphore(sessions)
        self._inside: set[asyncio.Task[None]] = set()

    def knock(self) -> asyncio.Protocol:
        """For one connection."""
        return _Knock(self)

    def came(self, transport: asyncio.Transport) -> None:
        """A connection was accepted; nothing of it has been read."""
        if len(self._inside) >= self._waiting:
            self.turn_away(transport)
            return
        task = asyncio.get_running_loop().create_task(self._admit(transport))
        self._inside.add(task)
        task.add_done_callback(self._inside.discard)

    def turn_away(self, transport: asyncio.Transport) -> None:
        """Hang up: the box tries again by itself."""
        self._counters["turned_away"] += 1
        transport.abort()

    async def _admit(self, transport: asyncio.Transport) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._sessions.acquire()
        except TimeoutError:
            self.turn_away(transport)
            return
        loop, secured = asyncio.get_running_loop(), None
        try:
            reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            secured = await loop.start_tls(transport, protocol, self._context, server_side=True, ssl_handshake_timeout=TIMEOUT_S / 2, ssl_shutdown_timeout=2)
            if secured is None:
                return
            protocol.connection_made(secured)
            writer = asyncio.StreamWriter(secured, protocol, reader, loop)
            await self._serve(reader, writer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await writer.wait_closed()
        except (OSError, ssl.SSLError) as error:
            log.debug("no TLS: %s", error)
        finally:
            (secured or transport).abort()
            self._sessions.release()


class _Knock(asyncio.Protocol):
    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # the first bytes belong to TLS
        self._door.came(transport)


class Enrolment:
    """Answers boxes."""

    def __init__(self, settings: Settings, directory: ProjectDirectory, service: AgentService, *, wall_ms: Callable[[], int], note: Note = ignore) -> None:
        self._note = note
        self._settings, self._directory, self._service, self._wall_ms = settings, directory, service, wall_ms
        self._authority = AuthorityClient(settings.home)
        self._refused: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._busy = asyncio.Semaphore(CONNECTIONS)
        self.counters = {"enrolled": 0, "renewed": 0, "grace": 0, "sessions": 0, "refused": 0, "turned_away": 0}
        self._questions: dict[str, Callable[[dict[str, Any], x509.Certificate | None], dict[str, Any]]] = {
            "/v1/enrol": self._enrol, "/v1/renew": self._renew, "/v1/confirm": self._confirm, "/v1/session": self._session}

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 with our gateway's certificate; a client's is asked for and, when shown, must be one of the edge zone."""
        credentials = self._settings.credentials
        return server_context(credentials / "gateway.pem", credentials / "gateway.key", credentials / "edge-clients.pem", required=False, newest_only=True)

    async def start(self) -> asyncio.Server:
        """Listen."""
        door = Door(self._serve, self.context(), self.counters)
        return await asyncio.get_running_loop().create_server(door.knock, self._settings.gateway_host, self._settings.enrolment_port, backlog=512)

    # -- one call -----------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str((writer.get_extra_info("peername") or ("?",))[0])
        status, answer = 500, {"code": "E-KANG", "zh": KangError.zh, "en": KangError.en}
        try:
            if self._busy.locked():  # whoever waits longer than a box's patience is served for nothing: say so at once
                status, answer = 503, {"code": "E-ENROL-BUSY", "zh": "注册服务繁忙，请稍后自动重试。", "en": "The enrolment service is busy; the box tries again by itself."}
            else:
                async with self._busy, asyncio.timeout(TIMEOUT_S * 2):
                    status, answer = await self._answer(reader, writer, address)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            writer.close()
            return
        except Exception:
            log.exception("a call failed")
        try:
            body = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
            writer.close()
        except (ConnectionError, ssl.SSLError):
            return

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> tuple[int, dict[str, Any]]:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if shown:  # a box with a valid certificate answers for itself, not for all behind its address
            address = f"{address} {hashlib.sha256(shown).hexdigest()[:16]}"
        path = ""
        try:
            self._may(address)
            method, path, body = await _read(reader)
            if (method, path) == ("GET", "/v1/roots"):
                return 200, {"roots": (self._settings.credentials / "edge-ca.pem").read_text()}
            question = self._questions.get(path)
            if method != "POST" or question is None:
                raise InputError(problem="no such question")
            certificate = x509.load_der_x509_certificate(shown) if shown else None
            answer = await asyncio.to_thread(question, body, certificate)
            who = str(answer.get("agent_id") or (_whose(certificate)[1] if certificate is not None else ""))
            self._note(Flow("auth", ZONE, who, address.partition(" ")[0], path))
            return 200, answer
        except KangError as error:
            self._note(Flow("refused", ZONE, "", address.partition(" ")[0], path if path in self._questions else "", error.code))
            self._count(address)
            log.warning("refused %s", address, extra={"fields": {"address": address, "code": error.code, "why": str(error)}})
            return (503 if error.code == "E-CA" else 429 if isinstance(error, WaitError) else 403), {"code": error.code, "zh": error.message("zh"), "en": error.message("en")}

    def _may(self, address: str) -> None:
        minute, count = self._refused.get(address, (0, 0))
        if minute == int(time.monotonic() // 60) and count >= REFUSALS:
            raise WaitError

    def _count(self, address: str) -> None:
        self.counters["refused"] += 1
        now = int(time.monotonic() // 60)
        minute, count = self._refused.pop(address, (now, 0))
        self._refused[address] = (now, count + 1 if minute == now else 1)
        if len(self._refused) > 10_000:
            self._refused.popitem(last=False)

    # -- questions ----------------------------------------------------------------------------------------------------

    def _enrol(self, body: dict[str, Any], _: x509.Certificate | None) -> dict[str, Any]:
        """The first certificate: {token, csr, signing_public, box_public, nkey, hardware_id}."""
        token, hardware = _text(body, "token", 64), _text(body, "hardware_id", 120)
        found = self._service.look_up(token, hardware)
        box = BoxKeys(_key(body, "signing_public"), _key(body, "box_public"), _text(body, "nkey", 60) if found.uplink == "nats" else "", hardware)
        suite, facts = self._suite(box)
        issued = self._authority.agent(_text(body, "csr", 8000).encode(), found.project_id, found.agent_id)
        jwt = self._jwt(found.project_id, found.agent_id, found.uplink, box.nkey)
        try:
            self._service.enrol(token, box, serial=issued.serial, not_after_ms=issued.not_after_ms)
        except KangError as error:
            if error.code == "E-REGISTER":
                raise token_refused() from error
            raise
        self.counters["enrolled"] += 1
        uplink = {"kind": "grpc", "address": f"{self._settings.reached_at}:{self._settings.gateway_port}"} if found.uplink == "grpc" else {"kind": "nats", "url": self._nats_url()}
        return {**self._given(issued.chain, jwt, suite), "agent_id": found.agent_id, "project_id": found.project_id, "platform": facts,
                "site": {"project_id": found.project_id, "agent_id": found.agent_id, "partitions": self._settings.partitions, "uplink": {**uplink, "partition": self._partition(found.project_id)}}}

    def _renew(self, body: dict[str, Any], shown: x509.Certificate | None) -> dict[str, Any]:
        """The next certificate and signing key: {certificate, request: JSON text of {csr, signing_public, nkey, hardware_id}, signature by the certificate's key}."""
        certificate = shown if shown is not None else self._ended(_text(body, "certificate", 8000))
        text = _text(body, "request", 16_000)
        public = certificate.public_key()
        try:
            assert isinstance(public, ec.EllipticCurvePublicKey)
            public.verify(bytes.fromhex(_text(body, "signature", 300)), text.encode(), ec.ECDSA(hashes.SHA256()))
            wanted = json.loads(text)
            if not isinstance(wanted, dict):
                raise ValueError("not an object")
        except (InvalidSignature, AssertionError):
            raise renewal_refused() from None
        except ValueError as error:
            raise InputError(problem=str(error)) from None
        project_id, agent_id, serial = _whose(certificate)
        grace, hardware = shown is None, _text(wanted, "hardware_id", 120)
        self._service.renewable(agent_id, project_id, serial, hardware, grace=grace)
        signing, nkey = _key(wanted, "signing_public"), _text(wanted, "nkey", 60, missing="")
        agent = self._directory.agent(agent_id)
        if agent is not None and agent.suite is not suite_of_public(signing):
            raise renewal_refused()  # a change of suite is a new enrolment
        issued = self._authority.agent(_text(wanted, "csr", 8000).encode(), project_id, agent_id)
        jwt = self._jwt(project_id, agent_id, agent.uplink if agent is not None else "grpc", nkey)
        self._service.renew(agent_id, signing=signing, nkey=nkey, serial=issued.serial, not_after_ms=issued.not_after_ms, grace=grace)
        self.counters["grace" if grace else "renewed"] += 1
        return self._given(issued.chain, jwt, suite_of_public(signing))

    def _confirm(self, body: dict[str, Any], shown: x509.Certificate | None) -> dict[str, Any]:
        """Over the new certificate: {changed: {batch: [epoch, last], result: [epoch, last]}}."""
        if shown is None:
            raise renewal_refused()
        _, agent_id, serial = _whose(shown)
        changed: dict[str, tuple[bytes, int]] = {}
        try:
            for stream in ("batch", "result"):
                epoch, last = body["changed"][stream]
                changed[stream] = (bytes.fromhex(epoch), int(last))
                if len(changed[stream][0]) != 16 or not 0 <= changed[stream][1] < 1 << 62:
                    raise ValueError(stream)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(problem=f"changed: {error}") from None
        self._service.confirm(agent_id, serial, changed)
        return {}

    def _session(self, _: dict[str, Any], shown: x509.Certificate | None) -> dict[str, Any]:
        """Over a valid certificate: the NATS token of a day."""
        if shown is None:
            raise renewal_refused()
        project_id, agent_id, serial = _whose(shown)
        agent = self._directory.agent(agent_id)
        if agent is None or agent.project_id != project_id or agent.revoked or serial not in {agent.certificate_serial, *agent.certificates}:
            raise renewal_refused()
        self.counters["sessions"] += 1
        return {"nats_jwt": self._jwt(project_id, agent_id, agent.uplink, self._service.nkey(agent_id)), "roots": (self._settings.credentials / "edge-ca.pem").read_text()}

    # -- parts --------------------------------------------------------------------------------------------------------

    def _ended(self, pem: str) -> x509.Certificate:
        """A certificate of our edge zone that ended within the grace, sent along because TLS would not take it."""
        try:
            certificate = x509.load_pem_x509_certificates(pem.encode())[0]
            known = x509.load_pem_x509_certificates((self._settings.credentials / "edge-clients.pem").read_bytes())
        except (ValueError, IndexError):
            raise InputError(problem="not a certificate") from None
        late = dt.datetime.fromtimestamp(self._wall_ms() / 1000, dt.UTC) - certificate.not_valid_after_utc
        for authority in known:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            if late <= GRACE:
                return certificate
        raise renewal_refused()

    def _suite(self, box: BoxKeys) -> tuple[Suite, dict[str, Any]]:
        """The suite of a box's keys, and what it keeps of the platform; before anything is signed or used up."""
        try:
            suite = one_suite(box.signing, box.box)
        except ValueError as error:
            raise InputError(problem=str(error)) from None
        return suite, platform_facts(self._settings, suite)

    def _given(self, chain: bytes, jwt: str, suite: Suite) -> dict[str, Any]:
        return {"certificate": chain.decode(), "roots": (self._settings.credentials / "edge-ca.pem").read_text(), "nats_jwt": jwt, "wait_s": 3,
                "audit_signing": _published(self._settings, "audit", suite)}

    def _partition(self, project_id: int) -> int:
        project = self._directory.project(project_id)
        if project is None:
            raise token_refused()
        return partition_for(project, self._settings.partitions)

    def _nats_url(self) -> str:
        return self._settings.nats_url or f"tls://{self._settings.reached_at}:{self._settings.nats_port}"

    def _jwt(self, project_id: int, agent_id: str, uplink: str, nkey: str) -> str:
        return self._authority.nats_user(nkey, project_id, agent_id, self._partition(project_id)) if uplink == "nats" and not self._settings.nats_url else ""


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, Any]]:
    """Method, path and JSON body of one HTTP/1.1 request.

    Raises:
        InputError: it is not one, or too large.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
            first, *lines = head.split("\r\n")
            method, path, version = first.split(" ")
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
            size = int(fields.get("content-length", "0"))
            if not version.startswith("HTTP/1.") or "transfer-encoding" in fields or not 0 <= size <= MAX_BODY:
                raise InputError(problem="a request of at most 64 kB with its length")
            body = json.loads(await reader.readexactly(size)) if size else {}
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise InputError(problem=type(error).__name__) from None
    if not isinstance(body, dict):
        raise InputError(problem="the body must be an object")
    return method, path, body


def _whose(certificate: x509.Certificate) -> tuple[int, str, str]:
    """(project, agent, serial) of an agent's certificate."""
    try:
        name = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)[0]
        _, _, _, project, _, agent_id = name.split("/")
        if name != subjects.agent_identity(int(project), agent_id):
            raise renewal_refused()
        return int(project), agent_id, f"{certificate.serial_number:x}"
    except (x509.ExtensionNotFound, IndexError, ValueError):
        raise renewal_refused() from None


def _text(body: dict[str, Any], name: str, limit: int, *, missing: str | None = None) -> str:
    value = body.get(name, missing)
    if not isinstance(value, str) or len(value) > limit:
        raise InputError(problem=f"{name} must be text of at most {limit} characters")
    return value


def _key(body: dict[str, Any], name: str) -> bytes:
    try:
        value = bytes.fromhex(_text(body, name, 128))
        verifying_key(value)  # an Ed25519 or X25519 key of any 32 bytes, a point of the SM2 curve
    except ValueError:
        raise InputError(problem=f"{name} must be 32 bytes (std) or a point of 64 (sm) in hex") from None
    return value




async def serve(home: Path) -> None:
    """Run until SIGTERM: a process of its own, so that a thousand boxes that talk never keep one from renewing."""
    asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER
    settings = load(home)
    ledger = open_ledger(settings.effective_ledger_url)
    flows = FlowLog(ClickHouse(settings, threads=1, name="enrolment"), days=settings.network_days)
    recording = asyncio.create_task(flows.run(), name="flows")
    listener = await Enrolment(settings, LedgerDirectory(ledger), AgentService(ledger), wall_ms=now_ms, note=flows.note).start()
    log.info("enrolment listens on %s:%d", settings.gateway_host, settings.enrolment_port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    listener.close()
    recording.cancel()
    await flows.last()
    ledger.close()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.gateways.enrolment --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-enrolment")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("enrolment")
    asyncio.run(serve(args.home))


if __name__ == "__main__":
    main()
