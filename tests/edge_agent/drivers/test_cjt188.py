"""The CJ/T 188 codec against published frames and against any bytes at all."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers import cjt188 as codec
from edge_agent.errors import FrameError

FRAMES = tomllib.loads((Path(__file__).parents[2] / "vectors" / "cjt188.toml").read_text(encoding="utf-8"))["frame"]
ADDRESSES = st.text("0123456789ABCDEF", min_size=14, max_size=14)


def raw(frame: dict) -> bytes:
    return bytes.fromhex(frame["hex"])


def profile(vector: dict) -> codec.Profile:
    return codec.PROFILES[vector.get("profile", "standard")]


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "request"], ids=lambda f: f["name"])
def test_published_requests_are_read_and_written_alike(vector):
    request = codec.parse_request(codec.decode(raw(vector)), profile=profile(vector))
    assert (request.address, request.service, request.di, request.sequence) == (vector["address"], vector["service"], vector["di"], vector["sequence"])
    assert request.encode(profile=profile(vector), preamble=0) == raw(vector)


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "heat"], ids=lambda f: f["name"])
def test_published_heat_replies_are_read(vector):
    reading = codec.parse_heat(codec.decode(b"\xfe" * 12 + raw(vector)), profile=profile(vector))
    for name in ("heat_energy", "volume", "supply_temp", "return_temp", "operating_hours"):
        if name in vector:
            assert reading.values[name][0] == pytest.approx(vector[name], abs=1e-9), name
    assert reading.values["heat_energy"][1] == vector.get("heat_unit", "kWh")
    assert (reading.address, reading.clock, reading.battery_low) == (vector["address"], vector["clock"], vector["battery_low"])


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "heat" and "V2" in f["name"]], ids=lambda f: f["name"])
def test_a_reply_in_default_units_is_written_as_the_meter_wrote_it(vector):
    assert codec.parse_heat(codec.decode(raw(vector))).encode(preamble=0) == raw(vector)


@pytest.mark.parametrize("vector", [f for f in FRAMES if f["kind"] == "refused"], ids=lambda f: f["name"])
def test_wrong_public_frames_are_refused_with_a_reason(vector):
    with pytest.raises(FrameError) as caught:
        codec.decode(raw(vector))
    assert caught.value.reason == vector["reason"]


@pytest.mark.parametrize(("name", "other", "reason"), [("V7", "standard", "di"), ("V7", "di_reversed", "unit"), ("V3 combined", "unit_first", "di")])
def test_a_wrong_profile_is_noticed_not_misread(name, other, reason):
    vector = next(f for f in FRAMES if f["name"].startswith(name))
    with pytest.raises(FrameError) as caught:
        codec.parse_heat(codec.decode(raw(vector)), profile=codec.PROFILES[other])
    assert caught.value.reason == reason


@given(ADDRESSES, st.integers(0, 255), st.binary(max_size=255), st.integers(0, 12))
def test_frames_survive_the_wire(address, control, data, preamble):
    frame = codec.Frame(codec.HEAT, address, control, data)
    assert codec.decode(frame.encode(preamble=preamble)) == frame


@given(st.lists(st.tuples(ADDRESSES, st.binary(max_size=60)), min_size=1, max_size=4), st.integers(1, 30), st.integers(2, 12))
def test_frames_are_found_in_any_chunks(contents, step, preamble):
    frames = [codec.Frame(codec.HEAT, address, 0x81, data) for address, data in contents]
    stream = b"".join(f.encode(preamble=preamble) for f in frames)
    extractor = codec.Extractor()
    assert [f for i in range(0, len(stream), step) for f in extractor.feed(stream[i:i + step])] == frames


@given(ADDRESSES, st.binary(max_size=60), st.data())
def test_a_damaged_frame_is_never_taken_for_another(address, data, draw):
    wire = bytearray(codec.Frame(codec.HEAT, address, 0x81, data).encode(preamble=0))
    at = draw.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(FrameError):
        codec.decode(bytes(wire))


@given(st.binary(max_size=300), st.sampled_from(list(codec.PROFILES.values())))
def test_no_bytes_raise_anything_but_a_frame_error(data, habit):
    for frame in codec.Extractor().feed(data):
        assert codec.decode(frame.encode()) == frame
    control = data[0] if data else 0
    frame = codec.Frame(codec.HEAT, "00" * 7, control, data[1:])
    for read in (lambda: codec.decode(data), lambda: codec.parse_heat(frame, profile=habit), lambda: codec.parse_request(frame, profile=habit),
                 lambda: codec.parse_address(frame, profile=habit)):
        try:
            read()
        except FrameError as error:
            assert error.reason


@given(st.sampled_from(list(codec.PROFILES.values())), st.integers(0, 99_999_999), st.integers(-79_999, 79_999), st.booleans())
def test_heat_readings_survive_the_wire(habit, energy, temp, missing):
    reading = codec.HeatReading("1" * 14, 7, {
        "settle_energy": (0.0, "kWh"), "heat_energy": (energy / 100, "kWh"), "heat_power": (math.nan if missing else 12.34, "kW"), "flow": (1.2345, "m3/h"),
        "volume": (9.5, "m3"), "supply_temp": (temp / 100, "degC"), "return_temp": (30.0, "degC"), "operating_hours": (5.0, "h")}, "20261124120000", b"\x04\x00")
    back = codec.parse_heat(codec.decode(reading.encode(profile=habit)), profile=habit)
    assert {k: v[1] for k, v in back.values.items()} == {k: v[1] for k, v in reading.values.items()}
    for name, (value, _) in reading.values.items():
        assert back.values[name][0] == pytest.approx(value, nan_ok=True)
    assert (back.clock, back.battery_low, back.sequence) == ("20261124120000", True, 7)
