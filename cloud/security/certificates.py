"""Certificates of an installation: an offline root, one online intermediate per zone, servers', clients' and agents' certificates from requests.

Keys of others never come here, only requests; a request's subject is ignored. Only the CA process (`authority_service`) makes an `Authority`.
Must not know: gRPC, NATS, the ledger, who asks.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.security.keys import read_secret, write_secret
from protos.errors import KangError

EDGE_ZONE: Final = "edge"
PLATFORM_ZONE: Final = "platform"
THIRD_ZONE: Final = "third"
ZONES: Final = (EDGE_ZONE, PLATFORM_ZONE, THIRD_ZONE)
AGENT_LIFE: Final = dt.timedelta(days=30)
GRACE: Final = dt.timedelta(days=90)
_ROOT_LIFE, _ZONE_LIFE, _SERVER_LIFE = dt.timedelta(days=7300), dt.timedelta(days=1825), dt.timedelta(days=365)


class CertificateError(KangError):
    """A signing request is refused."""

    code = "E-CERT-REQUEST"
    zh = "证书申请不合规：{problem}。请在设备上重新运行 kang-edge keygen。"
    en = "The certificate request is refused: {problem}. Run kang-edge keygen on the device again."


class RootSealedError(KangError):
    """The root key cannot be opened."""

    code = "E-PKI-ROOT"
    zh = "根密钥无法打开：{problem}。请核对离线保管的口令。"
    en = "The root key cannot be opened: {problem}. Check the passphrase you keep offline."


class Root:
    """The offline root: `root.pem`, and `root.sealed` which only its passphrase opens (Argon2id, AES-256-GCM)."""

    def __init__(self, folder: Path) -> None:
        self.certificate_file, self._sealed, self._passphrase = folder / "root.pem", folder / "root.sealed", folder / "root.passphrase"

    def make(self) -> ec.EllipticCurvePrivateKey:
        """A new root; its passphrase waits in `root.passphrase` until it is taken offline."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Kang root CA")
        certificate = _authority(x509.CertificateBuilder().subject_name(name).issuer_name(name), key.public_key(), _ROOT_LIFE, 1).sign(key, hashes.SHA256())
        passphrase = "-".join("".join(secrets.choice("ABCDEFGHJKMNPQRSTVWXYZ23456789") for _ in range(5)) for _ in range(6))
        salt, nonce = os.urandom(16), os.urandom(12)
        box = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, key_pem(key), b"kang root")
        write_secret(self._sealed, json.dumps({"salt": salt.hex(), "nonce": nonce.hex(), "box": box.hex()}).encode())
        write_secret(self._passphrase, passphrase.encode())
        self.certificate_file.write_bytes(_pem(certificate))
        return key

    @property
    def certificate(self) -> x509.Certificate:
        """The root certificate."""
        return x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    @property
    def taken_offline(self) -> bool:
        """False while the passphrase still stands on this machine."""
        return not self._passphrase.exists()

    def take_offline(self) -> str:
        """The passphrase, once: it is removed from this machine.

        Raises:
            RootSealedError: it was taken before.
        """
        if self.taken_offline:
            raise RootSealedError(problem="the passphrase was printed once before and is no longer here / 口令已取走")
        passphrase = read_secret(self._passphrase).decode()
        self._passphrase.write_bytes(b"\0" * len(passphrase))
        self._passphrase.unlink()
        return passphrase

    def open(self, passphrase: str) -> ec.EllipticCurvePrivateKey:
        """The root key, for the moment of signing an intermediate.

        Raises:
            RootSealedError: wrong passphrase.
        """
        sealed = json.loads(read_secret(self._sealed))
        try:
            pem = AESGCM(_stretch(passphrase.strip(), bytes.fromhex(sealed["salt"]))).decrypt(bytes.fromhex(sealed["nonce"]), bytes.fromhex(sealed["box"]), b"kang root")
        except InvalidTag:
            raise RootSealedError(problem="wrong passphrase / 口令错误") from None
        return _load_key(pem)


class Authority:
    """The online CA of one zone (监控系统 / 平台 / 第三方 keep apart)."""

    def __init__(self, folder: Path, zone: str) -> None:
        self.zone = zone
        self.certificate_file, self._key_file = folder / f"{zone}.pem", folder / f"{zone}.key"

    def make(self, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey) -> None:
        """A new intermediate under the root; certificates of the one before stay valid until they end."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder().subject_name(_name(f"Kang {self.zone} zone CA")).issuer_name(root.subject)
        certificate = _authority(builder, key.public_key(), _ZONE_LIFE, 0).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False).sign(root_key, hashes.SHA256())
        before = self.certificate_file.read_bytes() if self.certificate_file.exists() else b""
        write_secret(self._key_file, key_pem(key))
        self.certificate_file.write_bytes(_pem(certificate) + before)  # the newest first

    @property
    def exists(self) -> bool:
        """Was it made?"""
        return self._key_file.exists()

    @property
    def certificate(self) -> x509.Certificate:
        """The intermediate that signs now."""
        return x509.load_pem_x509_certificates(self.certificate_file.read_bytes())[0]

    def server(self, request_pem: bytes, common_name: str, hosts: Iterable[str]) -> bytes:
        """A server's chain.

        Raises:
            CertificateError: the request is refused.
        """
        return self._chain(self._issue(request_pem, common_name, _names(hosts), ExtendedKeyUsageOID.SERVER_AUTH, _SERVER_LIFE))

    def client(self, request_pem: bytes, identity: str, *, life: dt.timedelta = AGENT_LIFE) -> tuple[bytes, str, int]:
        """A client's certificate: the identity given here becomes its URI name, whatever the request says.

        Returns:
            (chain PEM, serial as lower-case hex, end in UTC milliseconds)

        Raises:
            CertificateError: the request cannot be parsed, its signature is wrong, or its key is not P-256.
        """
        certificate = self._issue(request_pem, identity.rsplit("/", 1)[-1], [x509.UniformResourceIdentifier(identity)], ExtendedKeyUsageOID.CLIENT_AUTH, life)
        return self._chain(certificate), f"{certificate.serial_number:x}", int(certificate.not_valid_after_utc.timestamp() * 1000)

    def _chain(self, certificate: x509.Certificate) -> bytes:
        mine = self.certificate
        return _pem(certificate) + (b"" if mine.issuer == mine.subject else _pem(mine))

    def _issue(self, request_pem: bytes, common_name: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier, life: dt.timedelta) -> x509.Certificate:
        public, mine, key, now = request_key(request_pem), self.certificate, _load_key(read_secret(self._key_file)), dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder().subject_name(_name(common_name)).issuer_name(mine.subject).public_key(public).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(min(now + life, mine.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256()))


class Pki:
    """All of it in one folder, and the public files others read in the credentials directory."""

    def __init__(self, folder: Path, credentials: Path) -> None:
        self.folder, self._credentials = folder, credentials
        self.root = Root(folder)
        self.zones = {zone: Authority(folder, zone) for zone in ZONES}
        self.legacy = Authority(folder, "legacy-edge")

    def prepare(self) -> None:
        """Make what is missing, take over the self-signed zone CA of an older installation, publish the public parts. Safe to run again."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._credentials.mkdir(mode=0o700, parents=True, exist_ok=True)
        old_key = self._credentials / "edge-ca.key"
        if old_key.exists():  # until every agent has renewed, the old CA keeps vouching for our servers
            shutil.copyfile(self._credentials / "edge-ca.pem", self.legacy.certificate_file)
            write_secret(self.folder / "legacy-edge.key", read_secret(old_key))
            old_key.unlink()
        if not self.root.certificate_file.exists():
            key = self.root.make()
            for zone in self.zones.values():
                zone.make(self.root.certificate, key)
        self.publish()

    def publish(self) -> None:
        """Write the trust anchors (`edge-ca.pem`) and, per zone, what vouches for its clients (`<zone>-clients.pem`; NATS takes two zones)."""
        legacy = self.legacy.certificate_file.read_bytes() if self.legacy.exists else b""
        anchors = {"edge-ca.pem": self.root.certificate_file.read_bytes() + legacy}
        for name, zone in self.zones.items():
            anchors[f"{name}-clients.pem"] = zone.certificate_file.read_bytes() + (legacy if name == EDGE_ZONE else b"")
        anchors["nats-clients.pem"] = anchors["edge-clients.pem"] + anchors["platform-clients.pem"]
        for name, data in anchors.items():
            target = self._credentials / name
            if not target.exists() or target.read_bytes() != data:
                temporary = target.with_suffix(".new")
                temporary.write_bytes(data)
                temporary.replace(target)

    def server_authority(self, zone: str = EDGE_ZONE) -> Authority:
        """Who signs our servers' certificates in a zone: towards agents the old CA as long as they may know only that one."""
        return self.legacy if zone == EDGE_ZONE and self.legacy.exists else self.zones[zone]

    def retire_legacy(self) -> None:
        """Forget the old CA: what it signed is refused from the next start on."""
        for file in (self.legacy.certificate_file, self.folder / "legacy-edge.key"):
            file.unlink(missing_ok=True)
        self.publish()

    def renew_zone(self, zone: str, passphrase: str) -> None:
        """A new intermediate for a zone.

        Raises:
            RootSealedError: wrong passphrase.
        """
        self.zones[zone].make(self.root.certificate, self.root.open(passphrase))
        self.publish()


def closed_circle(folder: Path, name: str, hosts: Iterable[str]) -> None:
    """Files for processes that speak to each other alone: `name`.pem and .key, good as server and as client, and `name`-ca.pem, whose key is thrown away.

    Nobody can ever be given another certificate of it. Made anew when absent or within 30 days of its end. Args: hosts: addresses and names they are reached under.
    """
    chain = folder / f"{name}.pem"
    if chain.exists() and x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=30):
        return
    authority, key, now = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    issuer = _name(f"Kang {name} circle")
    anchor = _authority(x509.CertificateBuilder().subject_name(issuer).issuer_name(issuer), authority.public_key(), _SERVER_LIFE, 0).sign(authority, hashes.SHA256())
    made = (x509.CertificateBuilder().subject_name(_name(name)).issuer_name(issuer).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + _SERVER_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False).sign(authority, hashes.SHA256()))
    write_secret(folder / f"{name}.key", key_pem(key))
    (folder / f"{name}-ca.pem").write_bytes(_pem(anchor))
    chain.write_bytes(_pem(made))


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate as 64 lower-case hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def request_key(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request.

    Raises:
        CertificateError: the request cannot be parsed, its signature is wrong, or its key is not P-256.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, InvalidSignature):
        raise CertificateError(problem="not a PKCS#10 request") from None
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise CertificateError(problem="its signature is wrong or its key is not P-256")
    return key


def make_request(common_name: str) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """A new P-256 key and its signing request."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, x509.CertificateSigningRequestBuilder().subject_name(_name(common_name)).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 PEM without a passphrase, for a file of mode 0600."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _authority(builder: x509.CertificateBuilder, public: ec.EllipticCurvePublicKey, life: dt.timedelta, path_length: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                          key_agreement=False, encipher_only=False, decipher_only=False)
    return (builder.public_key(public).serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False))


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(problem="the CA key is not an elliptic-curve key")
    return key


def _stretch(passphrase: str, salt: bytes) -> bytes:
    from argon2.low_level import Type, hash_secret_raw

    return hash_secret_raw(passphrase.encode(), salt, time_cost=3, memory_cost=65_536, parallelism=1, hash_len=32, type=Type.ID)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
