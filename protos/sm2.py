"""SM2 (GB/T 32918) over the system's libcrypto: signatures with SM3 and the usual identity, and key agreement on its curve.

The `cryptography` package has SM3 and SM4 but no SM2. Loaded on first use; OpenSSL 3 or later with SM2 is needed. Must not know: envelopes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from protos.errors import KangError

ORDER: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
IDENTITY: Final = b"1234567812345678"
_NID: Final = 1172
# DER before the raw parts: SubjectPublicKeyInfo of an uncompressed point, ECPrivateKey with curve and point in PKCS#8.
_SPKI: Final = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200") + b"\x04"
_PKCS8: Final = (bytes.fromhex("308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420"), bytes.fromhex("a14403420004"))


class Sm2MissingError(KangError):
    """The system's libcrypto cannot do SM2."""

    code = "E-SM2"
    zh = "系统的 libcrypto 不支持 SM2（{problem}）。请安装 OpenSSL 3，或改用 STD 算法套件。"
    en = "The system's libcrypto has no SM2 ({problem}). Install OpenSSL 3, or use the STD suite."


@functools.cache
def _lib() -> Any:
    name = ctypes.util.find_library("crypto") or "libcrypto.so.3"
    try:
        lib = ctypes.CDLL(name)
        for function, result, arguments in (
                ("EC_GROUP_new_by_curve_name", "p", "i"), ("EC_POINT_new", "p", "p"), ("EC_POINT_free", "", "p"), ("EC_POINT_mul", "i", "pppppp"), ("BN_bin2bn", "p", "bip"), ("BN_free", "", "p"),
                ("EC_POINT_oct2point", "i", "ppbzp"), ("EC_POINT_point2oct", "z", "ppibzp"), ("d2i_AutoPrivateKey", "p", "pPl"), ("d2i_PUBKEY", "p", "pPl"), ("EVP_PKEY_free", "", "p"),
                ("EVP_MD_CTX_new", "p", ""), ("EVP_MD_CTX_free", "", "p"), ("EVP_PKEY_CTX_new", "p", "pp"), ("EVP_PKEY_CTX_free", "", "p"), ("EVP_PKEY_CTX_set1_id", "i", "pbi"),
                ("EVP_MD_CTX_set_pkey_ctx", "", "pp"), ("EVP_get_digestbyname", "p", "b"), ("EVP_DigestSignInit", "i", "ppppp"), ("EVP_DigestVerifyInit", "i", "ppppp"),
                ("EVP_DigestSign", "i", "pbZbz"), ("EVP_DigestVerify", "i", "pbzbz"), ("ERR_clear_error", "", "")):
            found = getattr(lib, function)
            kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_long, "b": ctypes.c_char_p, "z": ctypes.c_size_t, "P": ctypes.POINTER(ctypes.c_char_p),
                     "Z": ctypes.POINTER(ctypes.c_size_t), "": None}
            found.restype, found.argtypes = kinds[result], [kinds[a] for a in arguments]
    except (OSError, AttributeError) as error:
        raise Sm2MissingError(problem=str(error)) from None
    return lib


@functools.cache
def _group() -> Any:
    group = _lib().EC_GROUP_new_by_curve_name(_NID)
    if not group:
        raise Sm2MissingError(problem="the curve is not compiled in")
    return group


def _multiply(scalar: bytes, point: bytes | None) -> bytes:
    """`scalar` times a point (x || y, 64 B), or times the generator.

    Raises:
        ValueError: not a point of the curve, or the result is at infinity.
    """
    lib, group = _lib(), _group()
    number, out, given = lib.BN_bin2bn(scalar, len(scalar), None), lib.EC_POINT_new(group), lib.EC_POINT_new(group)
    try:
        if point is None:
            good = lib.EC_POINT_mul(group, out, number, None, None, None)
        else:
            good = lib.EC_POINT_oct2point(group, given, b"\x04" + point, 65, None) and lib.EC_POINT_mul(group, out, None, given, number, None)
        buffer = ctypes.create_string_buffer(65)
        if not good or lib.EC_POINT_point2oct(group, out, 4, buffer, 65, None) != 65:
            lib.ERR_clear_error()
            raise ValueError("not a point of the SM2 curve")
        return buffer.raw[1:]
    finally:
        lib.BN_free(number)
        lib.EC_POINT_free(out)
        lib.EC_POINT_free(given)


class _Loaded:
    """A key as libcrypto holds it; reading it in costs as much as a signature, so each key does it once. Freed with its owner, never copied."""

    __slots__ = ("_free", "pointer")

    def __init__(self, der: bytes, *, private: bool) -> None:
        lib = _lib()
        self._free = lib.EVP_PKEY_free  # kept here: it is needed when modules are gone already
        place = ctypes.c_char_p(der)
        self.pointer = (lib.d2i_AutoPrivateKey if private else lib.d2i_PUBKEY)(None, ctypes.byref(place), len(der))
        if not self.pointer:
            lib.ERR_clear_error()
            raise ValueError("not an SM2 key")

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self._free(self.pointer)

    def __reduce__(self) -> Any:
        raise TypeError("a loaded key is not copied")


def _digest(key: _Loaded, *, private: bool, data: bytes, signature: bytes = b"") -> bytes | None:
    """Sign (DER signature) or verify (b"" when good, None when not)."""
    lib = _lib()
    context, options = lib.EVP_MD_CTX_new(), lib.EVP_PKEY_CTX_new(key.pointer, None)
    try:
        lib.EVP_MD_CTX_set_pkey_ctx(context, options)
        digest = lib.EVP_get_digestbyname(b"SM3")
        start = lib.EVP_DigestSignInit if private else lib.EVP_DigestVerifyInit
        if lib.EVP_PKEY_CTX_set1_id(options, IDENTITY, len(IDENTITY)) <= 0 or start(context, None, digest, None, key.pointer) <= 0:
            raise Sm2MissingError(problem="it refuses to sign or verify with SM3")
        if not private:
            good = lib.EVP_DigestVerify(context, signature, len(signature), data, len(data)) == 1
            lib.ERR_clear_error()
            return b"" if good else None
        size = ctypes.c_size_t(80)
        buffer = ctypes.create_string_buffer(80)
        if lib.EVP_DigestSign(context, buffer, ctypes.byref(size), data, len(data)) != 1:
            raise Sm2MissingError(problem="signing failed")
        return buffer.raw[:size.value]
    finally:
        lib.EVP_MD_CTX_free(context)
        lib.EVP_PKEY_CTX_free(options)


@dataclass(frozen=True, slots=True)
class Sm2PublicKey:
    """A point x || y, 64 B."""

    point: bytes
    _kept: list[_Loaded] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what is not on the curve.

        Raises:
            ValueError: it is not.
        """
        if len(self.point) != 64:
            raise ValueError("an SM2 public key has 64 bytes")
        _multiply(b"\x01", self.point)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Is r || s (64 B) this key's signature of `data`?"""
        if not self._kept:
            self._kept.append(_Loaded(_SPKI + self.point, private=False))
        return len(signature) == 64 and _digest(self._kept[0], private=False, data=data, signature=_der(signature)) == b""


@dataclass(frozen=True, slots=True)
class Sm2PrivateKey:
    """A number below the order, 32 B big-endian."""

    raw: bytes
    _kept: list[_Loaded] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be a key.

        Raises:
            ValueError: not 32 bytes, or not a number from 1 to the order - 2.
        """
        if len(self.raw) != 32 or not 0 < int.from_bytes(self.raw, "big") < ORDER - 1:
            raise ValueError("an SM2 private key is a number of 32 bytes below the order")

    @classmethod
    def generate(cls) -> Sm2PrivateKey:
        """A new key from the system's randomness."""
        return cls((secrets.randbelow(ORDER - 2) + 1).to_bytes(32, "big"))

    def __repr__(self) -> str:
        """Never the number."""
        return "Sm2PrivateKey()"

    def public_key(self) -> Sm2PublicKey:
        """Its public point."""
        return Sm2PublicKey(_multiply(self.raw, None))

    def sign(self, data: bytes) -> bytes:
        """R || s, 64 B."""
        if not self._kept:
            self._kept.append(_Loaded(_PKCS8[0] + self.raw + _PKCS8[1] + _multiply(self.raw, None), private=True))
        der = _digest(self._kept[0], private=True, data=data)
        return _raw(der or b"")

    def exchange(self, peer: bytes) -> bytes:
        """The x coordinate shared with a public point of 64 B.

        Raises:
            ValueError: it is not a point of the curve.
        """
        if len(peer) != 64:
            raise ValueError("an SM2 public key has 64 bytes")
        return _multiply(self.raw, peer)[:32]


def _der(signature: bytes) -> bytes:
    parts = b""
    for half in (signature[:32], signature[32:]):
        number = half.lstrip(b"\0") or b"\0"
        number = b"\0" + number if number[0] & 0x80 else number
        parts += b"\x02" + bytes([len(number)]) + number
    return b"\x30" + bytes([len(parts)]) + parts


def _raw(der: bytes) -> bytes:
    first = der[3]
    r, s = der[4:4 + first], der[6 + first:6 + first + der[5 + first]]
    return int.from_bytes(r, "big").to_bytes(32, "big") + int.from_bytes(s, "big").to_bytes(32, "big")
