"""Whose time counts: the synchronised local clock, else the platform's signed word, never before the floor."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.clock import AgentClock, Challenges
from protos.kang.v1 import link_pb2

KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
T0 = 1_795_000_000_000
CHALLENGE = b"c" * 12


def clock(mode: str = "auto", floor: int = 0) -> AgentClock:
    return AgentClock(command_key=KEY.public_key(), floor_ms=floor, mode=mode)


def welcome(wall: int = T0, challenge: bytes = CHALLENGE, key: Ed25519PrivateKey = KEY) -> link_pb2.Welcome:
    return link_pb2.Welcome(wall_ms=wall, signature=key.sign(challenge + struct.pack("<q", wall)))


def test_an_unsynchronised_box_does_not_know_the_time():
    now = clock().now(86_400_000, 5000)
    assert (now.trusted, now.wall_ms) == (False, 86_400_000)


def test_the_platforms_signed_time_is_kept_by_the_monotonic_clock():
    c = clock()
    c.asked(900)
    assert c.welcome(welcome(), [CHALLENGE], 86_400_000, 1000)
    now = c.now(0, 61_000)
    assert (now.trusted, now.wall_ms, c.source) == (True, T0 + 60_000, "platform")


def test_a_synchronised_local_clock_comes_first_and_its_error_is_known():
    c = clock()
    c.local(synchronised=True)
    c.asked(900)
    c.welcome(welcome(), [CHALLENGE], T0 + 250, 1000)
    assert (c.now(T0 + 5, 6000).wall_ms, c.source, c.local_error_ms) == (T0 + 5, "ntp", 250)


def test_a_local_clock_before_the_floor_is_not_believed_even_if_it_says_synchronised():
    c = clock(floor=T0)
    c.local(synchronised=True)
    assert not c.now(T0 - 86_400_000, 0).trusted


def test_forged_stale_unasked_or_backward_time_is_rejected_and_counted():
    c = clock(floor=T0)
    assert not c.welcome(welcome(), [CHALLENGE], 0, 1000)                                                          # nobody asked
    c.asked(1000)
    assert not c.welcome(welcome(key=Ed25519PrivateKey.generate()), [CHALLENGE], 0, 1000)
    assert not c.welcome(welcome(challenge=b"x" * 12), [CHALLENGE], 0, 1000)
    assert not c.welcome(welcome(), [CHALLENGE], 0, 60_000)                                                        # an old answer, replayed
    assert not c.welcome(welcome(T0 - 600_000), [CHALLENGE], 0, 1000)
    altered = welcome()
    altered.wall_ms += 1
    assert not c.welcome(altered, [CHALLENGE], 0, 1000)
    assert c.rejected == 6
    assert not c.now(0, 2000).trusted


def test_challenges_rotate_every_minute_and_three_are_remembered():
    c = Challenges()
    seen = [c.current(t, bytes([t // 30_000]) * 12) for t in range(0, 300_000, 30_000)]
    assert len(set(seen)) == 5
    assert [c.known(s) for s in dict.fromkeys(seen)] == [False, False, True, True, True]
