"""Keys of a new box: made here, and the private ones never leave. What the platform needs goes into agent.request.json.

Must not know: sites, devices.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from edge_agent import host
from edge_agent.errors import SiteError
from protos.envelope import raw_private


def make(directory: Path) -> Path:
    """Write agent.ed25519, agent.x25519, agent.key, agent.csr, nats.seed (when nkeys is installed) and agent.request.json.

    Returns:
        The request file to carry to the platform.

    Raises:
        SiteError: keys stand there already; nothing is overwritten.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = [n for n in ("agent.ed25519", "agent.x25519", "agent.key") if (directory / n).exists()]
    if present:
        raise SiteError(field=str(directory.name), problem=f"{', '.join(present)} already there; choose an empty directory")
    signing, box, tls = Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    _private(directory / "agent.ed25519", raw_private(signing))
    _private(directory / "agent.x25519", raw_private(box))
    _private(directory / "agent.key", tls.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    pem = request_for(tls)
    (directory / "agent.csr").write_bytes(pem)
    request = {"signing_public": signing.public_key().public_bytes_raw().hex(), "box_public": box.public_key().public_bytes_raw().hex(), "csr": pem.decode(), "nkey": _nkey(directory), "hardware_id": host.hardware_id()}
    target = directory / "agent.request.json"
    target.write_text(json.dumps(request, indent=1), encoding="utf-8")
    return target


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
