"""Renews the box's certificate and signing key (证书续期) at two thirds of their life, without losing a spooled reading.

What stands in the spool stays signed by the key of before; the new key signs from one exact number on. That number is written down before the
first file changes, while nothing can be sealed, and told to the platform until it has taken it: a crash at any step is finished at the next start.
Must not know: gRPC, NATS, devices.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent import host
from edge_agent.backoff import Backoff
from edge_agent.enrolment import EnrolError, Platform, learn, store, sync, trusting, write
from edge_agent.keygen import SIGNING_FILE, request_for, suite_at
from protos import suites
from protos.suites import SigningKey

log = logging.getLogger("kang.edge.renewal")
LOOK_S: Final = 60.0
DUE_SHARE: Final = 2 / 3
REFUSED_S: Final = 3600.0
#: The order in which files of `next/` take the place of those in use; the signing key first: from there on the new key signs.
FILES: Final = (*SIGNING_FILE.values(), "agent.key", "agent.pem", "zone-ca.pem", "nats.jwt")


class Store(Protocol):
    """A spool or journal that signs."""

    epoch: bytes

    @property
    def last_sequence(self) -> int:
        """The newest sequence sealed."""
        ...

    def still(self) -> AbstractContextManager[None]:
        """While held, nothing is sealed."""
        ...

    def use_key(self, key: SigningKey) -> None:
        """Sign with this from the next one on."""
        ...


def resume(directory: Path) -> None:
    """Finish a change of keys that a crash interrupted; before anything is sealed."""
    if (directory / "next" / "changed.json").exists():
        adopt(directory)
    elif (directory / "next").exists() and not (directory / "next" / "agent.key").exists():
        shutil.rmtree(directory / "next")


def adopt(directory: Path) -> None:
    """Put the new files in the place of the old; safe to run again after a crash at any point."""
    new = directory / "next"
    write(directory / "confirm.json", (new / "changed.json").read_bytes())
    for name in FILES:
        if (new / name).exists():
            (new / name).replace(directory / name)
    sync(directory)
    (new / "changed.json").unlink()
    shutil.rmtree(new)


class Renewal:
    """Keeps the box's credentials fresh."""

    def __init__(self, directory: Path, platform: Platform | None, stores: dict[str, Store], *, nats: bool, wall_ms: Callable[[], int]) -> None:
        """Args: platform: None = an old admission that does not say where to renew; stores: batch and result; nats: keep a NATS token too."""
        self._directory, self._platform, self._stores, self._nats, self._wall_ms = directory, platform, stores, nats, wall_ms
        self.counts: Counter[str] = Counter()
        self._renewing = asyncio.Lock()

    async def run(self) -> None:
        """Look once a minute; after a failure wait longer and longer, after a refusal an hour."""
        if self._platform is None:
            log.warning("this box does not know where to renew its certificate; admit it again before the certificate ends")
            return
        backoff = Backoff(cap_s=900.0)
        while True:
            try:
                await self.tend()
                backoff.succeeded()
                pause = LOOK_S * random.uniform(0.8, 1.2)
            except EnrolError as error:
                self.counts["failed"] += 1
                log.warning("renewal failed", extra={"fields": {"why": error.values["problem"]}})
                pause = REFUSED_S if error.refused else max(5.0, backoff.failed(time.monotonic(), random.random()))
            except (OSError, ValueError) as error:
                log.error("the credentials cannot be renewed", extra={"fields": {"why": str(error)}})
                pause = LOOK_S
            await asyncio.sleep(pause)

    async def tend(self) -> None:
        """Do what is due.

        Raises:
            EnrolError: not reached or refused.
        """
        async with self._renewing:  # files in use are read and changed by one at a time
            if (self._directory / "confirm.json").exists():
                await self._confirm()
            if self._now() >= self._due():
                await self._renew()
            if self._nats and self._now() >= self._token_due():
                await self._session()

    async def renew(self) -> None:
        """A new key, certificate and signing key, now.

        Raises:
            EnrolError: not reached or refused; what was begun goes on at the next call.
        """
        async with self._renewing:
            if (self._directory / "confirm.json").exists():
                await self._confirm()
            await self._renew()

    async def _renew(self) -> None:
        new, suite = self._directory / "next", suite_at(self._directory)  # never the other: that would be a new identity
        if not (new / "agent.key").exists():
            new.mkdir(mode=0o700, exist_ok=True)
            write(new / SIGNING_FILE[suite], suites.raw_private(suites.signing_key(suite)))
            write(new / "agent.key", ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        signing = suites.signing_key(suite, (new / SIGNING_FILE[suite]).read_bytes())
        answer = await self._ask_renewal(new, signing)
        store(new, answer)
        await asyncio.sleep(float(answer.get("wait_s", 3)))  # every host learns of the new key before the first message signed with it
        await asyncio.to_thread(self._switch, new, signing)
        if learn(self._directory, answer):
            log.info("the audit key of the platform is known from the next start on")
        self.counts["renewed"] += 1
        log.info("certificate and signing key renewed")
        await self._confirm()

    async def _ask_renewal(self, new: Path, signing: SigningKey) -> dict[str, Any]:
        assert self._platform is not None
        pem = (self._directory / "agent.pem").read_bytes()
        ended = x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc.timestamp() <= self._now()
        request = json.dumps({"csr": request_for(_key(new / "agent.key")).decode(), "signing_public": suites.raw_public(signing).hex(), "hardware_id": host.hardware_id(),
                              "nkey": self._nkey()})
        signature = _key(self._directory / "agent.key").sign(request.encode(), ec.ECDSA(hashes.SHA256()))
        body = {"request": request, "signature": signature.hex(), "certificate": pem.decode() if ended else ""}
        return await self._platform.ask("/v1/renew", body, self._context(shown=not ended))

    def _switch(self, new: Path, signing: SigningKey) -> None:
        with self._stores["batch"].still(), self._stores["result"].still():
            write(new / "changed.json", json.dumps({name: [one.epoch.hex(), one.last_sequence] for name, one in self._stores.items()}).encode())
            adopt(self._directory)
            for one in self._stores.values():
                one.use_key(signing)

    async def _confirm(self) -> None:
        assert self._platform is not None
        changed = json.loads((self._directory / "confirm.json").read_text())
        await self._platform.ask("/v1/confirm", {"changed": changed}, self._context())
        (self._directory / "confirm.json").unlink()

    async def _session(self) -> None:
        assert self._platform is not None
        answer = await self._platform.ask("/v1/session", {}, self._context())
        if answer.get("nats_jwt"):
            write(self._directory / "nats.jwt", str(answer["nats_jwt"]).encode())
            self.counts["tokens"] += 1

    def _context(self, *, shown: bool = True) -> Any:
        where = self._directory
        return trusting((where / "zone-ca.pem").read_text(), chain=where / "agent.pem" if shown else None, key=where / "agent.key")

    def _now(self) -> float:
        return self._wall_ms() / 1000

    def _due(self) -> float:
        mine = x509.load_pem_x509_certificates((self._directory / "agent.pem").read_bytes())[0]
        begin, end = mine.not_valid_before_utc.timestamp(), mine.not_valid_after_utc.timestamp()
        return begin + (end - begin) * DUE_SHARE

    def _token_due(self) -> float:
        file = self._directory / "nats.jwt"
        if not file.exists():
            return 0.0
        import base64
        body = file.read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        begin, end = float(claims["iat"]), float(claims.get("exp", 0))
        return begin + (end - begin) * DUE_SHARE if end else float("inf")

    def _nkey(self) -> str:
        seed = self._directory / "nats.seed"
        if not seed.exists():
            return ""
        import nkeys
        return str(nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key.decode())


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{file.name} is not an elliptic-curve key")
    return key
