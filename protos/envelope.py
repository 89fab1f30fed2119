"""The sealed envelope of clause 8.3 d, e, f: signed and chained when written, encrypted when sent.

Layout (little-endian): header 124 B | signature 64 B | ephemeral key (X25519 32 B, SM2 64 B) | ciphertext + 16 B tag. Named here for suite STD;
suite SM puts SM2, SM3, SM4-GCM in the same places (protos.suites). The chain digest h(i) = SHA-256(h(i-1) || header(i) || SHA-256(body(i))); h(i-1) stands in the header and is the HKDF salt of
the message key, so the hash of the time series takes part in the encryption of its content (8.3 e). Signature: Ed25519 over
header || SHA-256(body). Key: HKDF-SHA256(X25519(ephemeral, receiver), salt = h(i-1), info = header). The nonce is fixed because
no two messages share a key. Must not know: transports, what the body means, where keys live.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from protos.errors import KangError
from protos.suites import BY_NUMBER, TAG, Algorithms, BoxKey, SigningKey, Suite, VerifyingKey, suite_of

_HEADER: Final = struct.Struct("<2sBBBBH16s16s16sQqq32s12s")
HEADER_SIZE: Final = _HEADER.size
_MAGIC: Final = b"KE"
VERSION: Final = 1
OVERHEAD: Final = HEADER_SIZE + 64 + 32 + 16
GENESIS: Final = bytes(32)
_NONCE: Final = bytes(12)
NO_CHALLENGE: Final = bytes(12)


class EnvelopeError(KangError):
    """A sealed message is refused; `reason` is a stable word: length, version, suite, addressee, sender, kind, signature, decrypt, epoch,
    replay, stale, future, challenge, chain.
    """

    code = "E-ENVELOPE"
    zh = "信封校验未通过（{reason}），已拒收并记录。若持续出现，请检查设备时钟与证书。"
    en = "The sealed message was refused ({reason}) and recorded. If it persists, check the device's clock and certificate."

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.values["reason"])


class Kind(enum.IntEnum):
    """What the body is."""

    BATCH = 1
    RESULT = 2
    COMMAND = 3
    PLAN = 4


def identity_hash(identity: str) -> bytes:
    """16 bytes that stand for an identity string in headers."""
    return hashlib.sha256(identity.encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part of an envelope.

    Attributes:
        kind: what the body is.
        sender: identity hash of the sender, 16 B.
        receiver: identity hash of the addressee, 16 B.
        epoch: 16 B, of the sender's stream.
        sequence: rising within the epoch.
        sent_ms: sender's UTC milliseconds.
        not_after_ms: refuse later; 0 = no limit (telemetry: late data is legal).
        previous: chain digest of the message before, 32 B.
        challenge: 12 B echo, zero when none.
        priority: 0 safety .. 9 batch.
        suite: algorithms.
        flags: reserved, 0.
    """

    kind: Kind
    sender: bytes
    receiver: bytes
    epoch: bytes
    sequence: int
    sent_ms: int
    not_after_ms: int = 0
    previous: bytes = GENESIS
    challenge: bytes = NO_CHALLENGE
    priority: int = 9
    suite: Suite = Suite.STD
    flags: int = 0

    def pack(self) -> bytes:
        """The header's bytes, exactly as signed."""
        return _HEADER.pack(_MAGIC, VERSION, self.suite, self.kind, self.priority, self.flags, self.sender, self.receiver, self.epoch,
                            self.sequence, self.sent_ms, self.not_after_ms, self.previous, self.challenge)

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Read a header.

        Raises:
            EnvelopeError: length, version, suite or kind.
        """
        if len(data) < HEADER_SIZE:
            raise EnvelopeError(reason="length")
        magic, version, suite, kind, priority, flags, sender, receiver, epoch, seq, sent, not_after, previous, challenge = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != VERSION:
            raise EnvelopeError(reason="version")
        if suite not in BY_NUMBER:
            raise EnvelopeError(reason="suite")
        try:
            kind = Kind(kind)
        except ValueError:
            raise EnvelopeError(reason="kind") from None
        return cls(kind, sender, receiver, epoch, seq, sent, not_after, previous, challenge, priority, Suite(suite), flags)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed, chained message at rest (in a spool or journal), not yet encrypted."""

    header: bytes
    signature: bytes
    body: bytes

    @property
    def digest(self) -> bytes:
        """Chain digest of this message: `previous` of the next."""
        return chain_digest(self.header, self.body)

    def to_bytes(self) -> bytes:
        """Bytes for the spool."""
        return self.header + self.signature + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Signed:
        """Undo `to_bytes`."""
        if len(data) < HEADER_SIZE + 64:
            raise EnvelopeError(reason="length")
        return cls(data[:HEADER_SIZE], data[HEADER_SIZE:HEADER_SIZE + 64], data[HEADER_SIZE + 64:])


def chain_digest(header: bytes, body: bytes) -> bytes:
    """h(i) = SHA-256(h(i-1) || header || SHA-256(body)), or with SM3; h(i-1) already stands inside the header."""
    suite = _suite(header)
    return suite.digest(header + suite.digest(body))


def _suite(header: bytes) -> Algorithms:
    suite = BY_NUMBER.get(header[3])
    if suite is None:
        raise EnvelopeError(reason="suite")
    return suite


def sign(header: Header, body: bytes, key: SigningKey) -> Signed:
    """Sign and chain one message; the key must be one of the header's suite."""
    packed, suite = header.pack(), BY_NUMBER[header.suite]
    return Signed(packed, suite.sign(key, packed + suite.digest(body)), body)


class Sealer:
    """Encrypts signed messages to one receiver with one ephemeral key; make a new one for every connection."""

    def __init__(self, receiver_key: bytes, *, ephemeral: BoxKey | None = None, suite: Suite = Suite.STD) -> None:
        """Args: receiver_key: raw public key of the suite (X25519 32 B, SM2 64 B). ephemeral: only for vectors and the simulator."""
        self._suite, self._number = BY_NUMBER[suite], suite
        private = ephemeral or self._suite.ephemeral()
        self._public = self._suite.public(private)
        self._shared = self._suite.agree(private, receiver_key)

    def seal(self, signed: Signed) -> bytes:
        """The bytes that travel.

        Raises:
            EnvelopeError: suite, when it was signed in another.
        """
        if signed.header[3] != self._number:
            raise EnvelopeError(reason="suite")
        key = _message_key(self._suite, self._shared, signed.header)
        # The ephemeral key is authenticated too: X25519 ignores its top bit.
        clear = signed.header + signed.signature + self._public
        return clear + self._suite.encrypt(key, _NONCE, signed.body, clear)


@dataclass(frozen=True, slots=True)
class Opened:
    """A decrypted message. Nothing in it may be believed before `verify`."""

    header: Header
    signed: Signed

    @property
    def body(self) -> bytes:
        """The decrypted body."""
        return self.signed.body

    @property
    def digest(self) -> bytes:
        """Chain digest of this message."""
        return self.signed.digest

    def verify(self, sender_key: VerifyingKey, sender: str) -> None:
        """Check who signed; a key of another suite verifies nothing.

        Raises:
            EnvelopeError: sender or signature.
        """
        if self.header.sender != identity_hash(sender):
            raise EnvelopeError(reason="sender")
        suite = BY_NUMBER[self.header.suite]
        if not suite.verify(sender_key, self.signed.signature, self.signed.header + suite.digest(self.signed.body)):
            raise EnvelopeError(reason="signature")


class Opener:
    """Decrypts messages addressed to one identity. Keeps the key agreement of recent connections."""

    def __init__(self, identity: str, private_key: BoxKey, *others: BoxKey, sessions: int = 4096) -> None:
        """Args: private_key, others: one for each suite this identity reads; messages of another are refused (suite)."""
        self._identity = identity_hash(identity)
        self._private = {suite_of(key): key for key in (private_key, *others)}
        self._sessions: OrderedDict[bytes, bytes] = OrderedDict()
        self._limit = sessions

    def open(self, wire: bytes, kind: Kind, suite: Suite | None = None) -> Opened:
        """Decrypt one message (order of checks: length, version, kind, addressee, suite, decrypt; the caller verifies, then judges time and replay).

        Args:
            wire: as it travelled.
            kind: what it must be.
            suite: the one its sender is known by, when that is known: what comes in the other is refused, however well it is signed.

        Raises:
            EnvelopeError: with the stable reason.
        """
        if len(wire) < OVERHEAD:
            raise EnvelopeError(reason="length")
        header = Header.unpack(wire)
        if header.kind != kind:
            raise EnvelopeError(reason="kind")
        if header.receiver != self._identity:
            raise EnvelopeError(reason="addressee")
        private = self._private.get(header.suite)
        if private is None or suite not in (None, header.suite):
            raise EnvelopeError(reason="suite")
        algorithms = BY_NUMBER[header.suite]
        split = HEADER_SIZE + 64
        end = split + algorithms.public_size
        if len(wire) < end + TAG:
            raise EnvelopeError(reason="length")
        clear, ephemeral, sealed = wire[:split], wire[split:end], wire[end:]
        shared = self._agree(algorithms, private, ephemeral)
        try:
            body = algorithms.decrypt(_message_key(algorithms, shared, clear[:HEADER_SIZE]), _NONCE, sealed, wire[:end])
        except InvalidTag:
            raise EnvelopeError(reason="decrypt") from None
        return Opened(header, Signed(clear[:HEADER_SIZE], clear[HEADER_SIZE:], body))

    def _agree(self, suite: Algorithms, private: BoxKey, ephemeral: bytes) -> bytes:
        shared = self._sessions.get(ephemeral)
        if shared is None:
            try:
                shared = suite.agree(private, ephemeral)
            except ValueError:
                raise EnvelopeError(reason="decrypt") from None
            self._sessions[ephemeral] = shared
            if len(self._sessions) > self._limit:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(ephemeral)
        return shared


def _message_key(suite: Algorithms, shared: bytes, header: bytes) -> bytes:
    previous = header[HEADER_SIZE - 44:HEADER_SIZE - 12]
    return suite.derive(shared, previous, b"kang/1" + header)


class ReplayWindow:
    """Anti-replay of one stream: epoch, high-water and a bitmap of the last 1,024 sequences. Persist `state` with the journal."""

    WIDTH: Final = 1024

    def __init__(self, state: bytes = b"") -> None:
        self._epoch = state[:16]
        self._high = int.from_bytes(state[16:24], "little") if state else 0
        self._bitmap = int.from_bytes(state[24:], "little") if state else 0

    @property
    def state(self) -> bytes:
        """Bytes to persist in the same transaction as the effect."""
        if not self._epoch:
            return b""
        return self._epoch + self._high.to_bytes(8, "little") + self._bitmap.to_bytes(self.WIDTH // 8, "little")

    def check(self, epoch: bytes, sequence: int) -> None:
        """Raise when the message was seen before, or is too old to tell. Does not change the state.

        Raises:
            EnvelopeError: replay.
        """
        if epoch != self._epoch or sequence > self._high:
            return
        age = self._high - sequence
        if age >= self.WIDTH or (self._bitmap >> age) & 1:
            raise EnvelopeError(reason="replay")

    def accept(self, epoch: bytes, sequence: int) -> None:
        """Record a message that passed every check. A new epoch starts a new window."""
        if epoch != self._epoch:
            self._epoch, self._high, self._bitmap = epoch, sequence, 1
            return
        if sequence > self._high:
            shift = min(sequence - self._high, self.WIDTH)
            self._bitmap = ((self._bitmap << shift) | 1) & ((1 << self.WIDTH) - 1)
            self._high = sequence
        else:
            self._bitmap |= 1 << (self._high - sequence)


def check_time(header: Header, now_ms: int, *, skew_ms: int = 300_000) -> None:
    """Second test of freshness, after the challenge.

    Raises:
        EnvelopeError: stale (past `not_after_ms`) or future (sent later than now + skew).
    """
    if header.not_after_ms and now_ms > header.not_after_ms:
        raise EnvelopeError(reason="stale")
    if header.sent_ms > now_ms + skew_ms:
        raise EnvelopeError(reason="future")
