"""The two suites of algorithms of sealed envelopes, each with a self-test of known answers.

STD: Ed25519, X25519, SHA-256, AES-128-GCM. SM (国密): SM2, SM3, SM4-GCM. A key belongs to one suite, so that a message cannot be talked down to
the other. Must not know: headers, transports, where keys live.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protos.errors import KangError
from protos.sm2 import Sm2MissingError, Sm2PrivateKey, Sm2PublicKey

SigningKey = Ed25519PrivateKey | Sm2PrivateKey
VerifyingKey = Ed25519PublicKey | Sm2PublicKey
BoxKey = X25519PrivateKey | Sm2PrivateKey
TAG: Final = 16


class Suite(enum.IntEnum):
    """Algorithms: STD (Ed25519, X25519, SHA-256, AES-128-GCM) or SM (SM2, SM3, SM4-GCM)."""

    STD = 1
    SM = 2

    @classmethod
    def named(cls, name: str) -> Suite:
        """By its name in settings and pages: "std" or "sm", in any case of letters.

        Raises:
            ValueError: neither.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"{name!r} is no suite; it must be std or sm") from None

    @property
    def text(self) -> str:
        """As in settings and pages: std, sm."""
        return self.name.lower()


class SelfTestError(KangError):
    """An algorithm gives a wrong known answer; nothing may start with it."""

    code = "E-CRYPTO-SELFTEST"
    zh = "密码算法自检失败：{what}。已停止启动；请重装加密库。"
    en = "The self-test of {what} failed. Start is refused; reinstall the cryptographic library."


class Algorithms(Protocol):
    """What an envelope needs of a suite. Sizes in bytes."""

    public_size: int

    def digest(self, data: bytes) -> bytes: ...  # noqa: D102
    def sign(self, key: SigningKey, data: bytes) -> bytes: ...  # noqa: D102
    def verify(self, key: VerifyingKey, signature: bytes, data: bytes) -> bool: ...  # noqa: D102
    def ephemeral(self) -> BoxKey: ...  # noqa: D102
    def public(self, key: BoxKey) -> bytes: ...  # noqa: D102
    def agree(self, key: BoxKey, peer: bytes) -> bytes: ...  # noqa: D102
    def derive(self, shared: bytes, salt: bytes, info: bytes) -> bytes: ...  # noqa: D102
    def encrypt(self, key: bytes, nonce: bytes, body: bytes, clear: bytes) -> bytes: ...  # noqa: D102
    def decrypt(self, key: bytes, nonce: bytes, sealed: bytes, clear: bytes) -> bytes: ...  # noqa: D102


class Standard:
    """Ed25519, X25519, SHA-256, AES-128-GCM."""

    public_size = 32

    def digest(self, data: bytes) -> bytes:
        """SHA-256."""
        return hashlib.sha256(data).digest()

    def sign(self, key: SigningKey, data: bytes) -> bytes:
        """64 B.

        Raises:
            TypeError: a key of the other suite.
        """
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("suite STD signs with Ed25519")
        return key.sign(data)

    def verify(self, key: VerifyingKey, signature: bytes, data: bytes) -> bool:
        """Good, and of this suite?"""
        if not isinstance(key, Ed25519PublicKey):
            return False
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def ephemeral(self) -> BoxKey:
        """A new X25519 key."""
        return X25519PrivateKey.generate()

    def public(self, key: BoxKey) -> bytes:
        """32 B."""
        assert isinstance(key, X25519PrivateKey)
        return key.public_key().public_bytes_raw()

    def agree(self, key: BoxKey, peer: bytes) -> bytes:
        """X25519.

        Raises:
            ValueError: a key of the other suite, or of small order.
        """
        if not isinstance(key, X25519PrivateKey):
            raise ValueError("suite STD agrees by X25519")
        return key.exchange(X25519PublicKey.from_public_bytes(peer))

    def derive(self, shared: bytes, salt: bytes, info: bytes) -> bytes:
        """HKDF-SHA256 to 16 B."""
        return HKDF(hashes.SHA256(), 16, salt=salt, info=info).derive(shared)

    def encrypt(self, key: bytes, nonce: bytes, body: bytes, clear: bytes) -> bytes:
        """AES-128-GCM."""
        return AESGCM(key).encrypt(nonce, body, clear)

    def decrypt(self, key: bytes, nonce: bytes, sealed: bytes, clear: bytes) -> bytes:
        """AES-128-GCM.

        Raises:
            InvalidTag: it was changed.
        """
        return AESGCM(key).decrypt(nonce, sealed, clear)


class ShangMi:
    """SM2, SM3, SM4-GCM (国密)."""

    public_size = 64

    def digest(self, data: bytes) -> bytes:
        """SM3."""
        made = hashes.Hash(hashes.SM3())
        made.update(data)
        return made.finalize()

    def sign(self, key: SigningKey, data: bytes) -> bytes:
        """R || s, 64 B.

        Raises:
            TypeError: a key of the other suite.
        """
        if not isinstance(key, Sm2PrivateKey):
            raise TypeError("suite SM signs with SM2")
        return key.sign(data)

    def verify(self, key: VerifyingKey, signature: bytes, data: bytes) -> bool:
        """Good, and of this suite?"""
        return isinstance(key, Sm2PublicKey) and key.verify(signature, data)

    def ephemeral(self) -> BoxKey:
        """A new SM2 key."""
        return Sm2PrivateKey.generate()

    def public(self, key: BoxKey) -> bytes:
        """64 B."""
        assert isinstance(key, Sm2PrivateKey)
        return key.public_key().point

    def agree(self, key: BoxKey, peer: bytes) -> bytes:
        """Diffie-Hellman on the SM2 curve.

        Raises:
            ValueError: a key of the other suite, or not a point of the curve.
        """
        if not isinstance(key, Sm2PrivateKey):
            raise ValueError("suite SM agrees by SM2")
        return key.exchange(peer)

    def derive(self, shared: bytes, salt: bytes, info: bytes) -> bytes:
        """HKDF over HMAC-SM3 to 16 B."""
        return HKDF(hashes.SM3(), 16, salt=salt, info=info).derive(shared)

    def encrypt(self, key: bytes, nonce: bytes, body: bytes, clear: bytes) -> bytes:
        """SM4-GCM."""
        work = Cipher(SM4(key), GCM(nonce)).encryptor()
        work.authenticate_additional_data(clear)
        return work.update(body) + work.finalize() + work.tag

    def decrypt(self, key: bytes, nonce: bytes, sealed: bytes, clear: bytes) -> bytes:
        """SM4-GCM.

        Raises:
            InvalidTag: it was changed.
        """
        if len(sealed) < TAG:
            raise InvalidTag
        work = Cipher(SM4(key), GCM(nonce, sealed[-TAG:])).decryptor()
        work.authenticate_additional_data(clear)
        return work.update(sealed[:-TAG]) + work.finalize()


STD: Final = Standard()
SM: Final = ShangMi()
BY_NUMBER: Final[dict[int, Algorithms]] = {Suite.STD: STD, Suite.SM: SM}


def suite_of(key: SigningKey | VerifyingKey | BoxKey) -> Suite:
    """The one suite a key belongs to."""
    return Suite.SM if isinstance(key, Sm2PrivateKey | Sm2PublicKey) else Suite.STD


def suite_of_public(raw: bytes) -> Suite:
    """The suite of a raw public key: 32 B (Ed25519, X25519) STD, 64 B (SM2 point) SM.

    Raises:
        ValueError: another length.
    """
    if len(raw) not in (32, 64):
        raise ValueError("a public key has 32 bytes (std) or 64 (sm)")
    return Suite.STD if len(raw) == 32 else Suite.SM


def verifying_key(raw: bytes) -> VerifyingKey:
    """A public key that verifies, of either suite.

    Raises:
        ValueError: the length, or not a point of the SM2 curve.
        Sm2MissingError: it is an SM2 key and this machine has no SM2.
    """
    return Ed25519PublicKey.from_public_bytes(raw) if suite_of_public(raw) is Suite.STD else Sm2PublicKey(raw)


def verifies(key: VerifyingKey, signature: bytes, data: bytes) -> bool:
    """Is this the key's signature of `data`, in the key's own suite?"""
    return BY_NUMBER[suite_of(key)].verify(key, signature, data)


def signed(key: SigningKey, data: bytes) -> bytes:
    """The key's signature of `data` (64 B), in the key's own suite."""
    return BY_NUMBER[suite_of(key)].sign(key, data)


def signing_key(suite: Suite, raw: bytes | None = None) -> SigningKey:
    """A private key that signs: of 32 raw bytes, or a new one.

    Raises:
        ValueError: not 32 bytes, or not a number below the order of SM2.
    """
    if suite is Suite.SM:
        return Sm2PrivateKey.generate() if raw is None else Sm2PrivateKey(raw)
    return Ed25519PrivateKey.generate() if raw is None else Ed25519PrivateKey.from_private_bytes(raw)


def box_key(suite: Suite, raw: bytes | None = None) -> BoxKey:
    """A private key that opens: of 32 raw bytes, or a new one.

    Raises:
        ValueError: as `signing_key`.
    """
    if suite is Suite.SM:
        return Sm2PrivateKey.generate() if raw is None else Sm2PrivateKey(raw)
    return X25519PrivateKey.generate() if raw is None else X25519PrivateKey.from_private_bytes(raw)


def raw_public(key: SigningKey | BoxKey) -> bytes:
    """The public half as raw bytes: 32 (STD) or 64 (SM)."""
    return key.public_key().point if isinstance(key, Sm2PrivateKey) else key.public_key().public_bytes_raw()


def raw_private(key: SigningKey | BoxKey) -> bytes:
    """32 raw bytes of a private key, for a credentials file of mode 0600."""
    return key.raw if isinstance(key, Sm2PrivateKey) else key.private_bytes_raw()


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


def _standard_answers() -> dict[str, bool]:
    """FIPS 180-4, RFC 8032 7.1 test 2, RFC 7748 5.2, GCM specification test case 4."""
    key = Ed25519PrivateKey.from_private_bytes(_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    signature = _hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
    box = X25519PrivateKey.from_private_bytes(_hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"))
    body = _hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
    sealed = _hex("42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47")
    gcm = (_hex("feffe9928665731c6d6a8f9467308308"), _hex("cafebabefacedbaddecaf888"))
    clear = _hex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    return {
        "SHA-256": STD.digest(b"abc") == _hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        "Ed25519": STD.sign(key, b"\x72") == signature and STD.verify(key.public_key(), signature, b"\x72") and not STD.verify(key.public_key(), signature, b"\x73"),
        "X25519": STD.agree(box, _hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")) == _hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
        "AES-128-GCM": STD.encrypt(*gcm, body, clear) == sealed and STD.decrypt(*gcm, sealed, clear) == body and _refuses(STD, *gcm, sealed, clear),
    }


def _sm_answers() -> dict[str, bool]:
    """GB/T 32905 example 1, GB/T 32918.5 annex A.2, RFC 8998 annex A.1."""
    public = Sm2PublicKey(_hex("09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"))
    private = Sm2PrivateKey(_hex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8"))
    signature = _hex("F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA")
    gcm = (_hex("0123456789ABCDEFFEDCBA9876543210"), _hex("00001234567800000000ABCD"))
    body = b"".join(bytes([b]) * 8 for b in (0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF, 0xEE, 0xAA))
    clear = _hex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    sealed = _hex("17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D83DE3541E4C2B58177E065A9BF7B62EC")
    return {
        "SM3": SM.digest(b"abc") == _hex("66C7F0F462EEEDD9D1F2D46BDC10E4E24167C4875CF2F7A2297DA02B8F4BA8E0"),
        "SM2": (private.public_key() == public and SM.verify(public, signature, b"message digest") and not SM.verify(public, signature, b"message digesT")
                and SM.verify(public, SM.sign(private, b"kang"), b"kang")),
        "SM4-GCM": SM.encrypt(*gcm, body, clear) == sealed and SM.decrypt(*gcm, sealed, clear) == body and _refuses(SM, *gcm, sealed, clear),
    }


def _refuses(suite: Algorithms, key: bytes, nonce: bytes, sealed: bytes, clear: bytes) -> bool:
    try:
        suite.decrypt(key, nonce, sealed[:-1] + bytes([sealed[-1] ^ 1]), clear)
    except InvalidTag:
        return True
    return False


def judge(answers: Callable[[], dict[str, bool]]) -> None:
    """Every known answer must come out.

    Raises:
        SelfTestError: names the algorithms that fail.
    """
    wrong = [name for name, right in answers().items() if not right]
    if wrong:
        raise SelfTestError(what=", ".join(wrong))


@functools.cache
def self_test(*, sm_needed: bool = False) -> dict[str, Any]:
    """Known answers of both suites, once per process, before anything is signed. A machine without SM2 may go on with STD alone.

    Returns:
        {"STD": True, "SM": True or why it is not there}

    Raises:
        SelfTestError: a wrong answer.
        Sm2MissingError: SM is needed and not there.
    """
    judge(_standard_answers)
    try:
        judge(_sm_answers)
    except (Sm2MissingError, UnsupportedAlgorithm) as error:
        if sm_needed:
            raise
        return {"STD": True, "SM": str(error)}
    return {"STD": True, "SM": True}
