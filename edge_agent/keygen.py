"""Keys of a new box: made here, and the private ones never leave. What the platform needs goes into agent.request.json.

Must not know: sites, devices.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent import host
from edge_agent.errors import SiteError
from protos import suites
from protos.suites import Suite

#: The files of the two keys of envelopes, by suite: their names say of which suite a box is.
SIGNING_FILE: Final[Mapping[Suite, str]] = {Suite.STD: "agent.ed25519", Suite.SM: "agent-sign.sm2"}
BOX_FILE: Final[Mapping[Suite, str]] = {Suite.STD: "agent.x25519", Suite.SM: "agent-box.sm2"}


def make(directory: Path, suite: Suite = Suite.STD) -> Path:
    """Write the signing and the sealing key of a suite, agent.key, agent.csr, nats.seed (when nkeys is installed) and agent.request.json.

    The TLS key is P-256 in both suites: standard TLS has no SM2 certificates.

    Args:
        directory: made when it is not there; private files get mode 0600.
        suite: STD writes agent.ed25519 and agent.x25519, SM agent-sign.sm2 and agent-box.sm2.

    Returns:
        The request file to carry to the platform.

    Raises:
        SiteError: keys stand there already; nothing is overwritten.
        Sm2MissingError: suite SM, and this machine has no SM2.
    """
    if suite is Suite.SM:
        suites.self_test(sm_needed=True)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = [n for n in (*SIGNING_FILE.values(), *BOX_FILE.values(), "agent.key") if (directory / n).exists()]
    if present:
        raise SiteError(field=str(directory.name), problem=f"{', '.join(present)} already there; choose an empty directory")
    signing, box, tls = suites.signing_key(suite), suites.box_key(suite), ec.generate_private_key(ec.SECP256R1())
    _private(directory / SIGNING_FILE[suite], suites.raw_private(signing))
    _private(directory / BOX_FILE[suite], suites.raw_private(box))
    _private(directory / "agent.key", tls.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    pem = request_for(tls)
    (directory / "agent.csr").write_bytes(pem)
    request = {"suite": suite.text, "signing_public": suites.raw_public(signing).hex(), "box_public": suites.raw_public(box).hex(), "csr": pem.decode(), "nkey": _nkey(directory), "hardware_id": host.hardware_id()}
    target = directory / "agent.request.json"
    target.write_text(json.dumps(request, indent=1), encoding="utf-8")
    return target


def suite_at(directory: Path) -> Suite:
    """The suite of the keys in a credentials directory.

    Raises:
        SiteError: none, or keys of both.
    """
    found = [suite for suite, name in SIGNING_FILE.items() if (directory / name).exists()]
    if len(found) != 1:
        raise SiteError(field="credentials_dir", problem="holds signing keys of both suites; keep those it was admitted with" if found else f"{SIGNING_FILE[Suite.STD]} (or {SIGNING_FILE[Suite.SM]}): no such file")
    return found[0]


def request_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signing request; its subject says nothing, the platform gives the name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kang edge agent")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _nkey(directory: Path) -> str:
    """Make a NATS user key; returns its public part, "" when nkeys is not installed."""
    try:
        import nkeys
    except ImportError:
        return ""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    _private(directory / "nats.seed", bytes(seed))
    return str(nkeys.from_seed(seed).public_key.decode())
