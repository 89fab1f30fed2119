"""Key material of an installation as files of mode 0600 in the credentials directory; made once, at first start.

Must not know: who uses which key for what beyond its file name.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protos import suites
from protos.errors import KangError
from protos.sm2 import Sm2PrivateKey
from protos.suites import BoxKey, SigningKey, Suite, raw_private

#: How files of a pair's halves end, by suite: command.ed25519 and command.pub, command.sm2 and command.sm2.pub.
PUBLIC: Final[Mapping[Suite, str]] = {Suite.STD: "pub", Suite.SM: "sm2.pub"}


class CredentialError(KangError):
    """A credentials file is missing or open to others."""

    code = "E-CREDENTIAL"
    zh = "凭据文件 {file} {problem}。请运行 kang up 初始化，或恢复备份。"
    en = "Credentials file {file} {problem}. Run kang up to initialise, or restore a backup."


def write_secret(path: Path, data: bytes) -> None:
    """Write a secret atomically with mode 0600 inside a directory of mode 0700."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def read_secret(path: Path) -> bytes:
    """Read a secret file.

    Raises:
        CredentialError: it is missing, or others may read it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CredentialError(file=path, problem="is missing / 不存在") from None
    if mode & 0o077:
        raise CredentialError(file=path, problem="may be read by others / 权限过宽 (chmod 600)")
    return path.read_bytes()


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in `path`, made on first use."""
    if not path.exists():
        write_secret(path, raw_private(Ed25519PrivateKey.generate()))
    return Ed25519PrivateKey.from_private_bytes(read_secret(path))


def signing_pem(path: Path) -> bytes:
    """The Ed25519 key in `path`, made on first use, as PKCS#8 PEM (in memory only)."""
    return signing_key(path).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def box_key(path: Path) -> X25519PrivateKey:
    """The X25519 key in `path`, made on first use."""
    if not path.exists():
        write_secret(path, raw_private(X25519PrivateKey.generate()))
    return X25519PrivateKey.from_private_bytes(read_secret(path))


def suites_here() -> tuple[Suite, ...]:
    """The suites this machine can do; SM needs OpenSSL 3 with SM2.

    Raises:
        SelfTestError: an algorithm gives a wrong answer.
    """
    return (Suite.STD, Suite.SM) if suites.self_test()["SM"] is True else (Suite.STD,)


def sm2_key(path: Path) -> Sm2PrivateKey:
    """The SM2 key in `path`, made on first use."""
    if not path.exists():
        write_secret(path, raw_private(Sm2PrivateKey.generate()))
    return Sm2PrivateKey(read_secret(path))


def signing_keys(credentials: Path, name: str) -> dict[Suite, SigningKey]:
    """A purpose's signing keys by suite: NAME.ed25519 and, where the machine has SM2, NAME.sm2; made on first use."""
    found: dict[Suite, SigningKey] = {Suite.STD: signing_key(credentials / f"{name}.ed25519")}
    if Suite.SM in suites_here():
        found[Suite.SM] = sm2_key(credentials / f"{name}.sm2")
    return found


def box_keys(credentials: Path, name: str) -> dict[Suite, BoxKey]:
    """A purpose's opening keys by suite: NAME.x25519 and, where the machine has SM2, NAME.sm2; made on first use."""
    found: dict[Suite, BoxKey] = {Suite.STD: box_key(credentials / f"{name}.x25519")}
    if Suite.SM in suites_here():
        found[Suite.SM] = sm2_key(credentials / f"{name}.sm2")
    return found


def publish(credentials: Path, name: str) -> None:
    """Write the public halves of a purpose's signing keys beside them, for processes that never read the private ones."""
    for suite, key in signing_keys(credentials, name).items():
        (credentials / f"{name}.{PUBLIC[suite]}").write_bytes(suites.raw_public(key))


def shared_secret(path: Path) -> str:
    """A random 256-bit secret in `path`, made on first use."""
    if not path.exists():
        write_secret(path, secrets.token_hex(32).encode())
    return read_secret(path).decode()


_PREFIX_SEED, _PREFIX_USER = 18 << 3, 20 << 3


def crc16(data: bytes) -> bytes:
    """CRC-16/XMODEM as nkeys carry it, little-endian."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc.to_bytes(2, "little")


def nkey_seed(path: Path) -> tuple[bytes, str]:
    """A NATS user nkey: (seed text, public text); the seed is made on first use."""
    if not path.exists():
        raw = raw_private(Ed25519PrivateKey.generate())
        head = bytes([_PREFIX_SEED | (_PREFIX_USER >> 5), (_PREFIX_USER & 31) << 3])
        write_secret(path, base64.b32encode(head + raw + crc16(head + raw)).rstrip(b"="))
    seed = read_secret(path)
    raw = base64.b32decode(seed + b"=" * (-len(seed) % 8))[2:34]
    return seed, nkey_public(Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw())


def nkey_public(raw_public: bytes) -> str:
    """NATS text form of an Ed25519 public key as a user."""
    body = bytes([_PREFIX_USER]) + raw_public
    return base64.b32encode(body + crc16(body)).rstrip(b"=").decode()
