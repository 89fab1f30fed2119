"""The sealed envelope: no altered bit is accepted, nothing twice, late telemetry is legal, the chain holds."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protos import envelope
from protos.envelope import EnvelopeError, Header, Kind, Opener, ReplayWindow, Sealer

SIGNER = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
RECEIVER = X25519PrivateKey.from_private_bytes(b"\x02" * 32)
EPHEMERAL = X25519PrivateKey.from_private_bytes(b"\x03" * 32)
VECTOR = "b5b6c701fcb5c98ff24c7e92fa59f75f9ee8be0bea0fbb7528401ca42f4d9e21"
ME, YOU = "kang://project/7/agent/a1", "kang://platform/telemetry"


def header(**changes) -> Header:
    base = Header(Kind.BATCH, envelope.identity_hash(ME), envelope.identity_hash(YOU), b"e" * 16, 5, 1_795_000_000_000, previous=b"p" * 32, challenge=b"c" * 12)
    return dataclasses.replace(base, **changes)


def sealed(body: bytes = b"hello", **changes) -> bytes:
    return Sealer(RECEIVER.public_key().public_bytes_raw(), ephemeral=EPHEMERAL).seal(envelope.sign(header(**changes), body, SIGNER))


def opener() -> Opener:
    return Opener(YOU, RECEIVER)


def test_what_is_sealed_opens_and_verifies():
    opened = opener().open(sealed(), Kind.BATCH)
    opened.verify(SIGNER.public_key(), ME)
    assert (opened.body, opened.header) == (b"hello", header())


def test_sizes_stand_as_documented():
    assert (envelope.HEADER_SIZE, envelope.OVERHEAD) == (124, 236)
    assert len(sealed(b"x" * 100)) == 100 + envelope.OVERHEAD


def test_the_same_inputs_give_the_same_bytes_for_ever():
    """A vector: whoever changes the layout changes the version."""
    import hashlib
    assert hashlib.sha256(sealed()).hexdigest() == VECTOR


def test_no_single_flipped_bit_is_accepted():
    wire, reader = sealed(), opener()
    for k in range(len(wire) * 8):
        damaged = bytearray(wire)
        damaged[k // 8] ^= 1 << k % 8
        with pytest.raises(EnvelopeError):
            reader.open(bytes(damaged), Kind.BATCH).verify(SIGNER.public_key(), ME)


@given(st.integers(0, 400))
def test_no_truncation_is_accepted(n):
    wire = sealed()
    if n < len(wire):
        with pytest.raises(EnvelopeError):
            opener().open(wire[:n], Kind.BATCH)


@pytest.mark.parametrize(("build", "reason"), [
    (lambda: opener().open(sealed(), Kind.COMMAND), "kind"), (lambda: Opener("kang://platform/command", RECEIVER).open(sealed(), Kind.BATCH), "addressee"),
    (lambda: Opener(YOU, EPHEMERAL).open(sealed(), Kind.BATCH), "decrypt"), (lambda: opener().open(sealed(), Kind.BATCH).verify(SIGNER.public_key(), "kang://project/8/agent/a1"), "sender"),
    (lambda: opener().open(sealed(), Kind.BATCH).verify(Ed25519PrivateKey.from_private_bytes(b"\x09" * 32).public_key(), ME), "signature"),
    (lambda: opener().open(b"short", Kind.BATCH), "length"), (lambda: Header.unpack(b"XX" + bytes(200)), "version")])
def test_each_refusal_has_its_reason(build, reason):
    with pytest.raises(EnvelopeError) as caught:
        build()
    assert caught.value.reason == reason


@given(st.binary(max_size=600))
def test_any_bytes_open_or_are_refused_by_name(data):
    with pytest.raises(EnvelopeError) as caught:
        opener().open(data, Kind.BATCH)
    assert caught.value.reason


def test_the_chain_digest_depends_on_every_part():
    digests = {envelope.sign(h, b, SIGNER).digest for h, b in ((header(), b"a"), (header(), b"b"), (header(previous=b"q" * 32), b"a"), (header(sequence=6), b"a"))}
    assert len(digests) == 4


def test_time_late_telemetry_is_legal_late_commands_are_not():
    envelope.check_time(header(), 1_895_000_000_000)
    with pytest.raises(EnvelopeError) as stale:
        envelope.check_time(header(not_after_ms=1_795_000_001_000), 1_795_000_001_001)
    with pytest.raises(EnvelopeError) as future:
        envelope.check_time(header(), 1_795_000_000_000 - 300_001)
    assert (stale.value.reason, future.value.reason) == ("stale", "future")


@given(st.lists(st.integers(1, 3000), max_size=200), st.integers(0, 200))
def test_a_sequence_is_accepted_at_most_once_whatever_the_order_and_restarts(sequence, restart_at):
    window, taken = ReplayWindow(), []
    for k, n in enumerate(sequence):
        if k == restart_at:
            window = ReplayWindow(window.state)
        try:
            window.check(b"e" * 16, n)
        except EnvelopeError:
            assert n in taken or max(taken) - n >= ReplayWindow.WIDTH
            continue
        window.accept(b"e" * 16, n)
        taken.append(n)
    assert len(taken) == len(set(taken))
