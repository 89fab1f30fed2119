"""Suite SM beside suite STD: known answers, the same envelope, no way to talk one down to the other."""

from __future__ import annotations

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import envelope, suites
from protos.envelope import EnvelopeError, Header, Kind
from protos.sm2 import ORDER, Sm2PrivateKey, Sm2PublicKey
from protos.suites import Suite

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


def test_a_reader_of_both_suites_opens_both_and_only_the_one_a_sender_is_known_by() -> None:
    standard_sign, standard_box = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    both = envelope.Opener(PLATFORM, standard_box, BOX)
    standard = envelope.Sealer(standard_box.public_key().public_bytes_raw()).seal(envelope.sign(header(Suite.STD), b"std", standard_sign))
    assert [both.open(wire, Kind.BATCH, suite).body for wire, suite in ((standard, None), (standard, Suite.STD), (sealed(b"sm"), None), (sealed(b"sm"), Suite.SM))] == [b"std", b"std", b"sm", b"sm"]
    for wire, known in ((standard, Suite.SM), (sealed(), Suite.STD)):
        with pytest.raises(EnvelopeError, match="suite"):
            both.open(wire, Kind.BATCH, known)


@pytest.mark.parametrize("suite", list(Suite))
def test_a_key_says_its_suite_and_survives_its_raw_bytes(suite: Suite) -> None:
    signing, box = suites.signing_key(suite), suites.box_key(suite)
    again = suites.signing_key(suite, suites.raw_private(signing))
    public = suites.verifying_key(suites.raw_public(again))
    assert suites.raw_public(again) == suites.raw_public(signing)
    assert {suites.suite_of(k) for k in (signing, box, again, public)} == {suite} == {suites.suite_of_public(suites.raw_public(box))}
    assert suites.verifies(public, suites.signed(signing, b"x"), b"x")
    assert not suites.verifies(public, suites.signed(signing, b"x"), b"y")
    assert not suites.verifies(public, suites.signed(suites.signing_key(Suite.SM if suite is Suite.STD else Suite.STD), b"x"), b"x")
    assert Suite.named(suite.text) is Suite.named(suite.name) is suite


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), bytes(63), bytes(64), b"\x01" * 64, bytes(65)])
def test_what_is_no_public_key_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"public key|SM2 curve"):
        suites.verifying_key(raw)


@pytest.mark.parametrize("raw", [b"", bytes(32), b"\xff" * 32, (ORDER - 1).to_bytes(32, "big"), b"\x01" * 31, b"\x01" * 33])
def test_what_is_no_sm2_private_key_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="below the order"):
        suites.signing_key(Suite.SM, raw)


def test_an_unknown_suite_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="std or sm"):
        Suite.named("tlcp")


def test_a_loaded_key_is_never_copied_and_many_threads_may_use_one() -> None:
    key = Sm2PrivateKey.generate()
    assert pickle.loads(pickle.dumps(key)) == key
    public = key.public_key()

    def work(name: int) -> bool:
        return all(public.verify(key.sign(m), m) for m in (b"%d %d" % (name, k) for k in range(20)))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    for loaded in (key, public):
        with pytest.raises(TypeError, match="not copied"):
            pickle.dumps(loaded)
