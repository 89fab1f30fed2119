"""The DL/T 645 codec against published frames and against any bytes at all."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers import dlt645 as codec
from edge_agent.errors import FrameError

FRAMES = tomllib.loads((Path(__file__).parents[2] / "vectors" / "dlt645.toml").read_text(encoding="utf-8"))["frame"]
ADDRESSES = st.text("0123456789", min_size=12, max_size=12)


def raw(frame: dict) -> bytes:
    return bytes.fromhex(frame["hex"] + frame.get("tail", ""))


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "request"], ids=lambda f: f["name"])
def test_published_requests_are_read_and_written_alike(vector):
    request = codec.parse_request(codec.decode(raw(vector)))
    assert (request.address, request.service, request.di, request.sequence) == (vector["address"], vector["service"], vector.get("di", 0), vector.get("sequence", 0))
    assert request.encode(preamble=0) == raw(vector)


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "reply"], ids=lambda f: f["name"])
def test_published_replies_are_read_and_written_alike(vector):
    reply = codec.parse_reply(codec.decode(raw(vector)))
    assert (reply.address, reply.service, reply.di, list(reply.errors)) == (vector["address"], vector["service"], vector.get("di", 0), vector.get("errors", []))
    if "values" in vector:
        assert list(codec.decode_value(reply.di, reply.payload, edition=vector.get("edition", 2007))) == vector["values"]
    assert reply.encode(preamble=0) == raw(vector).lstrip(b"\xfe")


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "refused"], ids=lambda f: f["name"])
def test_wrong_public_frames_are_refused_with_a_reason(vector):
    with pytest.raises(FrameError) as caught:
        codec.decode(raw(vector))
    assert caught.value.reason == vector["reason"]


@given(ADDRESSES, st.integers(0, 255), st.binary(max_size=255), st.integers(0, 12))
def test_frames_survive_the_wire(address, control, data, preamble):
    frame = codec.Frame(address, control, data)
    assert codec.decode(frame.encode(preamble=preamble)) == frame


@given(st.lists(st.tuples(ADDRESSES, st.binary(max_size=40)), min_size=1, max_size=4), st.integers(1, 30), st.integers(0, 8))
def test_frames_are_found_in_any_chunks(contents, step, preamble):
    frames = [codec.Frame(address, 0x91, data) for address, data in contents]
    stream = b"".join(f.encode(preamble=preamble) for f in frames)
    extractor = codec.Extractor()
    found = [f for i in range(0, len(stream), step) for f in extractor.feed(stream[i:i + step])]
    assert found == frames
    assert extractor.discarded == 0


@given(ADDRESSES, st.binary(max_size=60), st.data())
def test_a_damaged_frame_is_never_taken_for_another(address, data, draw):
    wire = bytearray(codec.Frame(address, 0x91, data).encode(preamble=0))
    at = draw.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(FrameError):
        codec.decode(bytes(wire))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_frame_error(data):
    extractor = codec.Extractor()
    for frame in extractor.feed(data):
        assert codec.decode(frame.encode()) == frame
    for read in (codec.decode, lambda d: codec.parse_reply(codec.Frame("0" * 12, d[0] if d else 0, d[1:])),
                 lambda d: codec.parse_request(codec.Frame("0" * 12, d[0] if d else 0, d[1:]))):
        try:
            read(data)
        except FrameError as error:
            assert error.reason


@given(st.sampled_from(sorted(codec.ITEMS)), st.binary(max_size=40))
def test_item_decoders_raise_only_frame_errors(di, payload):
    try:
        values = codec.decode_value(di, payload)
    except FrameError:
        return
    assert codec.decode_value(di, codec.encode_value(di, values)) == pytest.approx(values, nan_ok=True) if not any(isinstance(v, str) for v in values) else True


@given(st.integers(-799_999, 799_999))
def test_signed_power_keeps_sign_and_digits(steps):
    value = steps / 10_000
    assert codec.decode_value(0x02030000, codec.encode_value(0x02030000, [value])) == (value,)


def test_a_phase_without_value_is_not_a_number():
    a, b, c = codec.decode_value(0x0201FF00, bytes.fromhex("0122ffff0322"))
    assert (a, c) == (220.1, 220.3)
    assert math.isnan(b)


def test_a_value_too_large_for_its_register_is_refused():
    with pytest.raises(FrameError) as caught:
        codec.encode_value(0x00010000, [1_000_000.0])
    assert caught.value.reason == "value"


def test_noise_before_and_an_echo_do_not_hide_the_reply():
    request = codec.Request("123456789012", codec.READ, 0x00010000)
    reply = codec.Reply("123456789012", codec.READ, 0x00010000, bytes.fromhex("56341200"))
    extractor = codec.Extractor()
    echo, answer = extractor.feed(b"\x00\x68\x13" + request.encode() + reply.encode())
    assert not codec.is_reply(echo)
    codec.check_reply(request, codec.parse_reply(answer))
    assert extractor.discarded == 3


@pytest.mark.parametrize(("reply", "reason"), [
    (codec.Reply("000000000001", codec.READ, 0x00010000), "address"), (codec.Reply("123456789012", codec.READ, 0x00020000), "di"),
    (codec.Reply("123456789012", codec.READ_ADDRESS), "control"), (codec.Reply("123456789012", codec.READ, error=codec.NO_DATA), "error_reply")])
def test_an_answer_to_another_question_is_refused(reply, reason):
    with pytest.raises(FrameError) as caught:
        codec.check_reply(codec.Request("123456789012", codec.READ, 0x00010000), reply)
    assert caught.value.reason == reason
