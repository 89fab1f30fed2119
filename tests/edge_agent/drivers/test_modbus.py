"""Registers and numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.modbus import decode, encode
from edge_agent.errors import FrameError
from edge_agent.templates import WIDTH, Address

KINDS = {"u16": (0, 0xFFFF), "s16": (-0x8000, 0x7FFF), "u32": (0, 0xFFFFFFFF), "s32": (-0x80000000, 0x7FFFFFFF)}


@given(st.sampled_from(sorted(KINDS)), st.sampled_from(["big", "little"]), st.data())
def test_integers_survive_the_registers(kind, order, data):
    value = data.draw(st.integers(*KINDS[kind]))
    address = Address(table="holding", type=kind)
    words = encode(address, value, word_order=order)
    assert len(words) == WIDTH[kind]
    assert all(0 <= w <= 0xFFFF for w in words)
    assert decode(address, words, word_order=order) == value


@given(st.floats(width=32), st.sampled_from(["big", "little"]))
def test_floats_survive_the_registers(value, order):
    address = Address(table="holding", type="f32")
    back = decode(address, encode(address, value, word_order=order), word_order=order)
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize(("kind", "words", "order", "value"), [
    ("u32", [0x0001, 0x0002], "big", 65538), ("u32", [0x0002, 0x0001], "little", 65538), ("s32", [0xFFFF, 0xFFFF], "big", -1), ("f32", [0x4248, 0], "big", 50.0), ("s16", [0xFFCE], "big", -50)])
def test_word_order_and_sign(kind, words, order, value):
    assert decode(Address(table="holding", type=kind), words, word_order=order) == value


@pytest.mark.parametrize(("kind", "value"), [("u16", 65536), ("u16", -1), ("s16", 40_000), ("bit", 2), ("u32", math.nan), ("f32", 1e39)])
def test_what_does_not_fit_is_refused(kind, value):
    with pytest.raises(FrameError) as caught:
        encode(Address(table="holding", type=kind), value)
    assert caught.value.reason == "value"


@given(st.sampled_from(sorted(WIDTH)), st.lists(st.integers(0, 0xFFFF), max_size=3))
def test_any_registers_decode_or_are_refused(kind, words):
    try:
        assert isinstance(decode(Address(table="holding", type=kind, bit=15), words), float)
    except FrameError as error:
        assert error.reason == "length"
        assert len(words) < WIDTH[kind]
