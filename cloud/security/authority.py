"""How other processes ask the CA process: one JSON message a line over a Unix socket, answered by one line.

A command-line call finds no CA process when the platform is down; it starts one that ends with it. Must not know: keys of the CA.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from cloud.core.settings import Settings
from cloud.security import certificates
from cloud.security.keys import write_secret
from protos.errors import KangError

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class AuthorityUnavailableError(KangError):
    """The CA process does not answer."""

    code = "E-CA"
    zh = "证书服务未应答（{problem}）。请查看 logs/ca.log，稍后重试。"
    en = "The certificate authority does not answer ({problem}). See logs/ca.log and try again."


class AuthorityRefusedError(KangError):
    """The CA process refuses."""

    code = "E-CA-REFUSED"
    zh = "证书服务拒绝：{problem}。请更正后重试。"
    en = "The certificate authority refuses: {problem}. Correct it and try again."


@dataclass(frozen=True, slots=True)
class Issued:
    """A client certificate: chain PEM, serial (lower-case hex), end in UTC milliseconds."""

    chain: bytes
    serial: str
    not_after_ms: int


def socket_path(home: Path) -> Path:
    """Where the CA process listens; socket paths must be short."""
    path = home / "pki" / "ca.sock"
    if len(str(path)) < 100:
        return path
    return Path("/tmp") / f"kang-ca-{os.getuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}" / "ca.sock"  # noqa: S108 # nosec B108


class AuthorityClient:
    """Asks the CA process of one installation. Blocking; call it from a worker thread inside asyncio code."""

    def __init__(self, home: Path, *, spawn: bool = False, timeout_s: float = 10.0) -> None:
        """Args: spawn: start a CA process for the life of this one when none listens (command line only)."""
        self._home, self._spawn, self._timeout_s = home, spawn, timeout_s
        self._started: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End a CA process that was started for this client."""
        if self._started is not None:
            self._started.terminate()
            self._started.wait(5)
            self._started = None

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """One question.

        Raises:
            AuthorityUnavailableError: nobody answers.
            AuthorityRefusedError: refused, and why.
        """
        try:
            with self._connect() as connection:
                connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
                answer: dict[str, Any] = json.loads(connection.makefile("rb").readline() or b"{}")
        except (OSError, ValueError) as error:
            raise AuthorityUnavailableError(problem=str(error) or type(error).__name__) from None
        if not answer.get("ok"):
            raise AuthorityRefusedError(problem=str(answer.get("problem", "no answer")))
        return answer

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 30
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(str(socket_path(self._home)))
            except OSError:
                connection.close()
                if not self._spawn or time.monotonic() > deadline:
                    raise
                if self._started is None or self._started.poll() is not None:
                    self._started = subprocess.Popen([sys.executable, "-m", "cloud.security.authority_service", "--home", str(self._home), "--private"], stdin=subprocess.DEVNULL,
                                                     stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509  only a system call
                time.sleep(0.02)
            else:
                return connection

    # -- questions ----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Root fingerprint, ends of the intermediates, whether the root's passphrase is offline."""
        return self.ask("status")

    def agent(self, request_pem: bytes, project_id: int, agent_id: str, *, life_s: int = 0) -> Issued:
        """An agent's certificate."""
        return _issued(self.ask("agent", csr=request_pem.decode(), project_id=project_id, agent_id=agent_id, life_s=life_s))

    def client(self, request_pem: bytes, zone: str, name: str, *, life_s: int = 0) -> Issued:
        """A certificate of a platform process or of a third party."""
        return _issued(self.ask("client", csr=request_pem.decode(), zone=zone, name=name, life_s=life_s))

    def nats_user(self, nkey: str, project_id: int, agent_id: str, partition: int) -> str:
        """A NATS agent's JWT for a day."""
        return str(self.ask("nats_user", nkey=nkey, project_id=project_id, agent_id=agent_id, partition=partition)["jwt"])

    def server_files(self, credentials: Path, name: str, hosts: list[str], *, zone: str = certificates.EDGE_ZONE) -> tuple[Path, Path]:
        """Chain and key files of a server of a zone; asked for again when absent, within 30 days of their end, for other names, or signed by an old CA."""
        chain_file, key_file = credentials / f"{name}.pem", credentials / f"{name}.key"
        wanted = sorted(set(hosts))
        issuer = str(self.ask("status")["server_issuers"][zone])
        if not (chain_file.exists() and key_file.exists() and _good(chain_file, wanted, issuer)):
            key, request = certificates.make_request(name)
            chain = str(self.ask("server", csr=request.decode(), name=name, hosts=wanted, zone=zone)["chain"]).encode()
            write_secret(key_file, certificates.key_pem(key))
            chain_file.write_bytes(chain)
        return chain_file, key_file

    def client_files(self, credentials: Path, zone: str, name: str) -> tuple[Path, Path]:
        """Chain and key files of a platform process that dials others; renewed within 30 days of their end."""
        chain_file, key_file = credentials / f"{zone}-{name}.pem", credentials / f"{zone}-{name}.key"
        if not (chain_file.exists() and key_file.exists() and _good(chain_file, None, None)):
            key, request = certificates.make_request(name)
            issued = self.client(request, zone, name, life_s=397 * 86_400)
            write_secret(key_file, certificates.key_pem(key))
            chain_file.write_bytes(issued.chain)
        return chain_file, key_file


def certifier(settings: Settings, *, spawn: bool = False) -> Callable[[bytes, str, int], tuple[bytes, bytes]]:
    """Signs external systems' requests: (request PEM, client id, days) -> (chain PEM, roots PEM). Raises as `AuthorityClient.ask`."""

    def certify(request: bytes, client_id: str, days: int) -> tuple[bytes, bytes]:
        with AuthorityClient(settings.home, spawn=spawn) as authority:
            return authority.client(request, certificates.THIRD_ZONE, client_id, life_s=days * 86_400).chain, (settings.credentials / "edge-ca.pem").read_bytes()

    return certify


def _issued(answer: dict[str, Any]) -> Issued:
    return Issued(str(answer["chain"]).encode(), str(answer["serial"]), int(answer["not_after_ms"]))


def _good(chain_file: Path, hosts: list[str] | None, issuer: str | None) -> bool:
    present = x509.load_pem_x509_certificates(chain_file.read_bytes())[0]
    if present.not_valid_after_utc - dt.datetime.now(dt.UTC) < dt.timedelta(days=30):
        return False
    if issuer is not None and present.issuer.rfc4514_string() != issuer:
        return False
    names = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    here = sorted([*names.get_values_for_type(x509.DNSName), *(str(a) for a in names.get_values_for_type(x509.IPAddress))])
    return hosts is None or here == hosts


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)
