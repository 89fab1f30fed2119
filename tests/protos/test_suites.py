"""Suite SM beside suite STD: known answers, the same envelope, no way to talk one down to the other."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import envelope, suites
from protos.envelope import EnvelopeError, Header, Kind, Suite
from protos.sm2 import ORDER, Sm2PrivateKey, Sm2PublicKey

AGENT, PLATFORM = "kang://project/1/agent/a", "kang://platform/telemetry"
SIGNING, BOX = Sm2PrivateKey.generate(), Sm2PrivateKey.generate()


def header(suite: Suite, sequence: int = 1, previous: bytes = envelope.GENESIS) -> Header:
    return Header(Kind.BATCH, envelope.identity_hash(AGENT), envelope.identity_hash(PLATFORM), bytes(16), sequence, 1_000, previous=previous, suite=suite)


def sealed(body: bytes = b"21.5 degC") -> bytes:
    return envelope.Sealer(BOX.public_key().point, suite=Suite.SM).seal(envelope.sign(header(Suite.SM), body, SIGNING))


def test_both_suites_pass_their_known_answers():
    assert suites.self_test(sm_needed=True) == {"STD": True, "SM": True}


@pytest.mark.parametrize("answers", [suites._standard_answers, suites._sm_answers])
def test_a_wrong_answer_refuses_the_start_and_names_the_algorithm(answers):
    for name in answers():
        with pytest.raises(suites.SelfTestError, match=name):
            suites.judge(lambda name=name: {**answers(), name: False})


def test_an_sm_envelope_opens_and_verifies():
    opened = envelope.Opener(PLATFORM, BOX).open(sealed(b"42"), Kind.BATCH)
    opened.verify(SIGNING.public_key(), AGENT)
    assert (opened.body, opened.header.suite) == (b"42", Suite.SM)


def test_the_sm_chain_is_linked_by_sm3():
    first = envelope.sign(header(Suite.SM), b"1", SIGNING)
    assert first.digest == suites.SM.digest(first.header + suites.SM.digest(b"1"))
    second = envelope.sign(header(Suite.SM, 2, first.digest), b"2", SIGNING)
    opened = envelope.Opener(PLATFORM, BOX).open(envelope.Sealer(BOX.public_key().point, suite=Suite.SM).seal(second), Kind.BATCH)
    assert opened.header.previous == first.digest


def test_no_flipped_bit_is_accepted():
    wire = sealed()
    opener = envelope.Opener(PLATFORM, BOX)
    accepted = 0
    for bit in range(0, 8 * len(wire), 3):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            opener.open(bytes(changed), Kind.BATCH).verify(SIGNING.public_key(), AGENT)
            accepted += 1
        except EnvelopeError:
            pass
    assert accepted == 0


def test_a_key_of_the_other_suite_opens_and_verifies_nothing():
    standard_sign, standard_box = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    with pytest.raises(EnvelopeError, match="suite"):
        envelope.Opener(PLATFORM, standard_box).open(sealed(), Kind.BATCH)
    opened = envelope.Opener(PLATFORM, BOX).open(sealed(), Kind.BATCH)
    with pytest.raises(EnvelopeError, match="signature"):
        opened.verify(standard_sign.public_key(), AGENT)
    with pytest.raises(TypeError):
        envelope.sign(header(Suite.SM), b"", standard_sign)
    with pytest.raises(EnvelopeError, match="suite"):
        envelope.Sealer(BOX.public_key().point, suite=Suite.SM).seal(envelope.sign(header(Suite.STD), b"", standard_sign))


def test_a_suite_nobody_knows_is_refused():
    packed = bytearray(header(Suite.STD).pack())
    packed[3] = 9
    with pytest.raises(EnvelopeError, match="suite"):
        Header.unpack(bytes(packed))


@given(st.binary(min_size=64, max_size=64))
def test_points_off_the_curve_are_refused(point: bytes):
    with pytest.raises(ValueError, match="curve"):
        Sm2PublicKey(point)


@settings(max_examples=30)
@given(st.integers(1, ORDER - 2), st.binary(max_size=200))
def test_sm2_signs_what_it_verifies_and_nothing_else(number: int, data: bytes):
    key = Sm2PrivateKey(number.to_bytes(32, "big"))
    signature = key.sign(data)
    assert key.public_key().verify(signature, data)
    assert not key.public_key().verify(signature, data + b"\0")
    assert not SIGNING.public_key().verify(signature, data)


def test_the_private_number_is_never_shown():
    assert SIGNING.raw.hex() not in repr(SIGNING)
    assert "raw" in {f.name for f in dataclasses.fields(SIGNING)}
