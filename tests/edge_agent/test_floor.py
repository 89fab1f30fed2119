"""A box without a battery clock: the first trusted time is written down before anything is stamped with it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.agent import Agent
from edge_agent.config import Credentials, Site, Uplink
from protos.kang.v1 import link_pb2

PLATFORM = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
BOX = X25519PrivateKey.from_private_bytes(b"\x08" * 32)
TRUE_MS = 1_795_000_000_000


class Woken:
    """An operating system that believes it is 1970."""

    def wall_ms(self) -> int:
        return 12_000

    def mono_ms(self) -> int:
        return 5_000

    def boot_id(self) -> bytes:
        return b"b" * 16

    def cpu_s(self) -> float:
        return 0.0

    def clock_synchronised(self) -> bool:
        return False


def agent(folder) -> Agent:
    site = Site(1, "a", 1, folder, folder, Uplink("nats"), {}, {})
    return Agent(site, Credentials(PLATFORM, BOX, BOX.public_key().public_bytes_raw(), PLATFORM.public_key(), "", folder), system=Woken())


def test_after_a_power_cut_right_after_the_first_welcome_time_does_not_return_to_1970(tmp_path):
    first = agent(tmp_path)
    beat = first.heartbeat()
    wall = TRUE_MS.to_bytes(8, "little", signed=True)
    first.on_welcome(link_pb2.Welcome(wall_ms=TRUE_MS, signature=PLATFORM.sign(beat.challenge + wall)))
    assert first.now().trusted
    first.spool.close()
    first.journal.close()
    again = agent(tmp_path)
    assert again.now().wall_ms >= TRUE_MS
    assert not again.now().trusted
    again.spool.close()
    again.journal.close()
