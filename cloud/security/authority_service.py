"""The CA process: the only one that reads the keys of the zones' intermediates and of NATS's operator and accounts.

Answers typed questions over a Unix socket to processes of its own user; every certificate it signs leaves a line in `issued.jsonl`.
Must not know: HTTP, the ledger, who may admit whom (the askers judge that).
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import fcntl
import json
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats.errors

from cloud.core.log import configure
from cloud.core.settings import Settings, load
from cloud.security import certificates
from cloud.security.authority import socket_path
from cloud.security.certificates import EDGE_ZONE, PLATFORM_ZONE, THIRD_ZONE, Pki, fingerprint
from cloud.security.nats_trust import NatsTrust, Refused
from protos import subjects
from protos.errors import KangError
from protos.suites import self_test

log = logging.getLogger("kang.ca")
MAX_MESSAGE = 64 << 10


class Service:
    """Answers one question after the other; signing takes a fraction of a millisecond."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        folder = settings.home / "pki"
        self.pki = Pki(folder, settings.credentials)
        self.pki.prepare()
        self.nats = NatsTrust(settings, folder)
        self.nats.prepare()
        self._issued = folder / "issued.jsonl"
        self.asked = time.monotonic()
        self._ops: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status, "agent": self._agent, "client": self._client, "server": self._server, "nats_user": self._nats_user, "nats_platform": self._nats_platform,
            "nats": lambda _: self.nats.description(), "take_root_offline": lambda _: {"passphrase": self.pki.root.take_offline()},
            "retire_legacy": self._retire, "renew_zone": self._renew_zone}

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one question."""
        try:
            peer: socket.socket = writer.get_extra_info("socket")
            _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in (os.getuid(), 0):
                raise Refused("another user's process")
            async with asyncio.timeout(10):
                line = await reader.readline()
            self.asked = time.monotonic()
            answer = await self._answer(json.loads(line))
        except KangError as error:
            answer = {"ok": False, "problem": error.message("en")}
        except (Refused, ValueError, KeyError, TypeError, TimeoutError, OSError, nats.errors.Error) as error:
            log.warning("refused: %s", error or type(error).__name__)
            answer = {"ok": False, "problem": str(error) or type(error).__name__}
        try:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()
        except OSError:
            return

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        op = question["op"]
        if op == "nats_revoke":
            return {"ok": True, "seconds": await self.nats.revoke({str(k): int(v) for k, v in dict(question["revoked"]).items()})}
        if op not in self._ops:
            raise Refused(f"no question {op!r}")
        return {"ok": True, **self._ops[op](question)}

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        zones = {name: {"serial": f"{zone.certificate.serial_number:x}", "not_after_ms": int(zone.certificate.not_valid_after_utc.timestamp() * 1000)} for name, zone in self.pki.zones.items()}
        anchor = self.pki.legacy.certificate if self.pki.legacy.exists else self.pki.root.certificate
        return {"root_fingerprint": fingerprint(self.pki.root.certificate), "anchor_fingerprint": fingerprint(anchor), "root_offline": self.pki.root.taken_offline, "legacy": self.pki.legacy.exists, "zones": zones,
                "server_issuers": {name: self.pki.server_authority(name).certificate.subject.rfc4514_string() for name in self.pki.zones}, "pid": os.getpid()}

    def _agent(self, question: dict[str, Any]) -> dict[str, Any]:
        identity = subjects.agent_identity(int(question["project_id"]), _word(question["agent_id"]))
        return self._client_certificate(EDGE_ZONE, question, identity)

    def _client(self, question: dict[str, Any]) -> dict[str, Any]:
        zone = question["zone"]
        if zone not in (PLATFORM_ZONE, THIRD_ZONE):
            raise Refused("agents' certificates are asked for as agents'")
        return self._client_certificate(zone, question, f"kang://{zone}/{_word(question['name'])}")

    def _client_certificate(self, zone: str, question: dict[str, Any], identity: str) -> dict[str, Any]:
        life_s = int(question.get("life_s") or 0)
        if not 0 <= life_s <= 400 * 86_400:
            raise Refused("a life of at most 400 days")
        life = dt.timedelta(seconds=life_s) if life_s else certificates.AGENT_LIFE
        chain, serial, end = self.pki.zones[zone].client(str(question["csr"]).encode(), identity, life=life)
        self._note(zone, identity, serial, end)
        return {"chain": chain.decode(), "serial": serial, "not_after_ms": end}

    def _server(self, question: dict[str, Any]) -> dict[str, Any]:
        name, zone = _word(question["name"]), str(question.get("zone", EDGE_ZONE))
        if zone not in self.pki.zones:
            raise Refused("no such zone")
        chain = self.pki.server_authority(zone).server(str(question["csr"]).encode(), name, [str(h) for h in question["hosts"]])
        self._note(zone, f"server {name}", "", 0)
        return {"chain": chain.decode()}

    def _nats_user(self, question: dict[str, Any]) -> dict[str, Any]:
        return {"jwt": self.nats.agent(str(question["nkey"]), int(question["project_id"]), _word(question["agent_id"]), int(question["partition"]))}

    def _nats_platform(self, question: dict[str, Any]) -> dict[str, Any]:
        return {"jwt": self.nats.platform(str(question["nkey"]))}

    def _retire(self, _: dict[str, Any]) -> dict[str, Any]:
        self.pki.retire_legacy()
        return {}

    def _renew_zone(self, question: dict[str, Any]) -> dict[str, Any]:
        if question["zone"] not in self.pki.zones:
            raise Refused("no such zone")
        self.pki.renew_zone(str(question["zone"]), str(question["passphrase"]))
        return {}

    def _note(self, zone: str, identity: str, serial: str, end: int) -> None:
        with self._issued.open("a") as out:
            out.write(json.dumps({"at_ms": int(time.time() * 1000), "zone": zone, "identity": identity, "serial": serial, "not_after_ms": end}) + "\n")


def _word(value: Any) -> str:
    text = str(value)
    if not text or len(text) > 60 or any(c in text for c in "/ .*>\t\r\n"):
        raise Refused("a name must not be empty, too long, or contain dots, spaces, slashes or wildcards")
    return text


async def serve(settings: Settings, *, private: bool) -> None:
    """Run until SIGTERM; a private one (of a command line) also ends when nobody has asked for a minute."""
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "pki").mkdir(mode=0o700, exist_ok=True)
    with (settings.home / "pki" / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        service = Service(settings)
    path = socket_path(settings.home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(service.serve_one, path=str(path), limit=MAX_MESSAGE)
    path.chmod(0o600)
    mine = path.stat().st_ino
    log.info("certificate authority ready")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        try:
            async with asyncio.timeout(2):
                await stop.wait()
        except TimeoutError:
            if private and time.monotonic() - service.asked > 60:
                break
    server.close()
    if path.exists() and path.stat().st_ino == mine:
        path.unlink()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.security.authority_service --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-ca")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--private", action="store_true", help="for one command line")
    args = parser.parse_args(argv)
    os.umask(0o077)
    configure("ca", logging.WARNING if args.private else logging.INFO)
    self_test()
    asyncio.run(serve(load(args.home), private=args.private))


if __name__ == "__main__":
    main()
