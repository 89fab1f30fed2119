"""Asks the platform's enrolment listener: the first certificate by token, the next by the one at hand, the NATS token of a day.

Must not know: devices, the spool.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_agent import host, keygen
from protos.errors import KangError
from protos.suites import Suite, suite_of_public

TIMEOUT_S: Final = 20
MAX_ANSWER: Final = 256 << 10


class EnrolError(KangError):
    """The platform refuses, cannot be reached, or is not the one expected."""

    code = "E-EDGE-ENROL"
    zh = "注册或续期未成功：{problem}。"
    en = "Enrolment or renewal did not succeed: {problem}."

    @property
    def refused(self) -> bool:
        """True when the platform said no (asking again at once is useless)."""
        return bool(self.values.get("status") == 403)


@dataclass(frozen=True, slots=True)
class Platform:
    """Where the listener is, and what its certificate must say."""

    host: str
    port: int
    name: str = "kang-gateway"

    async def ask(self, path: str, body: dict[str, Any] | None, context: ssl.SSLContext) -> dict[str, Any]:
        """One HTTPS call; GET without a body.

        Raises:
            EnrolError: not reached, refused, or not an answer.
        """
        data = b"" if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=context, server_hostname=self.name, limit=MAX_ANSWER)
                try:
                    writer.write(f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {self.name}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                    await writer.drain()
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
                    size = next(int(line.split(":", 1)[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
                    if size > MAX_ANSWER:
                        raise ValueError("the answer is too long")
                    answer: dict[str, Any] = json.loads(await reader.readexactly(size))
                    status = int(head.split(" ")[1])
                finally:
                    writer.close()
        except (OSError, ValueError, StopIteration, IndexError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise EnrolError(problem=str(error) or type(error).__name__, status=0) from None
        if status != 200:
            raise EnrolError(problem=f"{answer.get('code')} {answer.get('en')}", status=status)
        return answer


def trusting(roots: str, *, chain: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 to a platform vouched for by these roots, showing a certificate when there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots)
    if chain is not None:
        context.load_cert_chain(chain, key)
    return context


async def pinned_roots(platform: Platform, fingerprint: str) -> str:
    """The platform's roots, fetched over a connection nobody vouches for and believed only when one has this fingerprint.

    Raises:
        EnrolError: none has.
    """
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    roots = str((await platform.ask("/v1/roots", None, blind)).get("roots", ""))
    wanted = fingerprint.replace(":", "").strip().lower()
    try:
        for root in x509.load_pem_x509_certificates(roots.encode()):
            if hashlib.sha256(root.public_bytes(serialization.Encoding.DER)).hexdigest() == wanted:
                return root.public_bytes(serialization.Encoding.PEM).decode()
    except ValueError:
        pass
    raise EnrolError(problem="this is not the platform of the invitation: its root has another fingerprint", status=0)


async def enrol(url: str, token: str, fingerprint: str, directory: Path, suite: Suite = Suite.STD) -> dict[str, Any]:
    """Make keys here, be admitted by token, write the credentials; keys that stand there from an attempt before are used again.

    Returns:
        What belongs into site.yaml: project_id, agent_id, partitions, uplink, suite (also written beside as site.enrolled.yaml).

    Raises:
        EnrolError: not reached, another platform, or refused.
    """
    parts = urlsplit(url if "//" in url else f"https://{url}")
    if not parts.hostname:
        raise EnrolError(problem=f"{url!r} is not an address", status=0)
    platform = Platform(parts.hostname, parts.port or 8424)
    if (directory / "agent.pem").exists():
        raise EnrolError(problem=f"{directory} holds a certificate already; choose an empty directory", status=0)
    request_file = directory / "agent.request.json"
    if not request_file.exists():
        keygen.make(directory, suite)
    elif keygen.suite_at(directory) is not suite:
        raise EnrolError(problem=f"{directory} holds keys of the other suite; a change of suite needs an empty directory and a new invitation", status=0)
    request = json.loads(request_file.read_text(encoding="utf-8"))
    roots = await pinned_roots(platform, fingerprint)
    answer = await platform.ask("/v1/enrol", {**request, "token": token, "hardware_id": host.hardware_id()}, trusting(roots))
    store(directory, answer)
    write(directory / "platform.json", json.dumps({**answer["platform"], "enrolment": {"host": platform.host, "port": platform.port}}).encode())
    site = {**answer["site"], "suite": suite.text}
    write(directory / "site.enrolled.yaml", yaml.safe_dump(site, sort_keys=False).encode())
    return site


def store(directory: Path, answer: dict[str, Any]) -> None:
    """Write what the platform gave: certificate chain, roots, NATS token."""
    write(directory / "agent.pem", str(answer["certificate"]).encode())
    write(directory / "zone-ca.pem", str(answer["roots"]).encode())
    if answer.get("nats_jwt"):
        write(directory / "nats.jwt", str(answer["nats_jwt"]).encode())


def learn(directory: Path, answer: dict[str, Any]) -> bool:
    """Take the audit key into platform.json where none stands; one that stands is never replaced, or whoever holds the platform could rewrite its log unseen.

    Returns:
        True when it was taken (in force from the next start).
    """
    file, given = directory / "platform.json", str(answer.get("audit_signing") or "")
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"audit_signing": "?"}
    try:
        mine = Suite.SM if len(str(known.get("command_signing"))) == 128 else Suite.STD
        fits = not known.get("audit_signing") and suite_of_public(bytes.fromhex(given)) is mine
    except ValueError:
        fits = False
    if not fits:
        return False
    write(file, json.dumps({**known, "audit_signing": given}).encode())
    return True


def write(path: Path, data: bytes) -> None:
    """Atomically and durably, mode 0600."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Let names survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
