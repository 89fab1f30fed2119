"""The installation's own certificate authority: zone CAs, server certificates, and agent certificates from signing requests.

Device keys are born on the device; only requests come here. Must not know: gRPC, NATS, the ledger.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.security.keys import read_secret, write_secret
from protos.errors import KangError

EDGE_ZONE = "edge"
AGENT_LIFE = dt.timedelta(days=30)


class CertificateError(KangError):
    """A signing request is refused."""

    code = "E-CERT-REQUEST"
    zh = "证书申请不合规：{problem}。请在设备上重新运行 kang-edge keygen。"
    en = "The certificate request is refused: {problem}. Run kang-edge keygen on the device again."


class Authority:
    """The CA of one zone (监控系统 / 平台 / 第三方 keep apart): `<zone>-ca.pem` and `<zone>-ca.key` in the credentials directory."""

    def __init__(self, credentials: Path, zone: str) -> None:
        self.certificate_file = credentials / f"{zone}-ca.pem"
        key_file = credentials / f"{zone}-ca.key"
        if not key_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Kang {zone} zone CA")])
            now = dt.datetime.now(dt.UTC)
            certificate = (
                x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=3650))
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
                                             data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .sign(key, hashes.SHA256()))
            write_secret(key_file, _key_pem(key))
            self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        loaded = serialization.load_pem_private_key(read_secret(key_file), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise CertificateError(problem="the CA key is not an elliptic-curve key")
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def server(self, credentials: Path, name: str, hosts: list[str]) -> tuple[Path, Path]:
        """Certificate and key files of a server; re-issued when absent or within 30 days of expiry."""
        certificate_file, key_file = credentials / f"{name}.pem", credentials / f"{name}.key"
        if certificate_file.exists() and key_file.exists():
            present = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            if present.not_valid_after_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=30):
                return certificate_file, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        certificate = self._issue(key.public_key(), name, names, ExtendedKeyUsageOID.SERVER_AUTH, dt.timedelta(days=397))
        write_secret(key_file, _key_pem(key))
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate_file, key_file

    def agent(self, request_pem: bytes, identity: str, *, life: dt.timedelta = AGENT_LIFE) -> tuple[bytes, str]:
        """Sign an agent's request. The subject in the request is ignored: the identity given here becomes the URI name.

        Returns:
            (certificate PEM, serial as lower-case hex)

        Raises:
            CertificateError: the request cannot be parsed, its signature is wrong, or its key is not P-256.
        """
        try:
            request = x509.load_pem_x509_csr(request_pem)
            valid = request.is_signature_valid
        except (ValueError, InvalidSignature):
            raise CertificateError(problem="not a PKCS#10 request") from None
        key = request.public_key()
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise CertificateError(problem="its signature is wrong or its key is not P-256")
        certificate = self._issue(key, identity.rsplit("/", 1)[-1], [x509.UniformResourceIdentifier(identity)], ExtendedKeyUsageOID.CLIENT_AUTH, life)
        return certificate.public_bytes(serialization.Encoding.PEM), f"{certificate.serial_number:x}"

    def _issue(self, key: ec.EllipticCurvePublicKey, common_name: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier,
               life: dt.timedelta) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
            .issuer_name(self._certificate.subject).public_key(key).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256()))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
