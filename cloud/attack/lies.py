"""Results our own box may not say: flipped, in others' names, forged; sent over the real link, believed when they are acknowledged.

Must not know: how the command service judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from typing import Final

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.attack.box import Box
from cloud.attack.rows import Row
from cloud.core.clock import now_ms
from cloud.security import keys
from protos import envelope, subjects, suites
from protos.kang.v1 import command_pb2 as pb
from protos.kang.v1 import link_pb2, telemetry_pb2
from protos.suites import SigningKey, Suite

RESULTS: Final = "result road"
FLIPS: Final = 64


class Liar:
    """The box, by hand: its credentials, its link, what was acknowledged to it."""

    def __init__(self, box: Box, authority: bytes) -> None:
        self._box, self._authority, self._folder = box, authority, box.folder / "credentials"
        self._mine = Ed25519PrivateKey.from_private_bytes((self._folder / "agent.ed25519").read_bytes())
        self._platform = {suite: envelope.Sealer(suites.raw_public(key), suite=suite) for suite, key in keys.box_keys(box.settings.credentials, "telemetry").items()}
        self._outbox: asyncio.Queue[link_pb2.Up] = asyncio.Queue()
        self._welcome = asyncio.Event()
        self._epoch, self._index = os.urandom(16), 0
        self.acked: set[int] = set()

    def result(self, *, key: SigningKey | None = None, sender: str = "", agent: str = "", shift: int = 0, receiver: str = subjects.PLATFORM_IDENTITY) -> tuple[int, bytes]:
        """(number, sealed) of the next result; genuine unless told otherwise."""
        self._index += 1
        body = pb.Result(command_id=os.urandom(16), project_id=self._box.project, agent_id=agent or self._box.name, stage=pb.STAGE_VERIFIED, at_ms=now_ms(), index=self._index + shift)
        header = envelope.Header(envelope.Kind.RESULT, envelope.identity_hash(sender or self._box.identity), envelope.identity_hash(receiver), self._epoch, self._index, now_ms(), 0, bytes(32), bytes(12), 5,
                                 suites.suite_of(key or self._mine))
        return self._index, self._platform[header.suite].seal(envelope.sign(header, body.SerializeToString(), key or self._mine))

    def say(self, sealed: bytes) -> None:
        """Send one."""
        self._outbox.put_nowait(link_pb2.Up(result=sealed))

    async def _words(self) -> AsyncIterator[link_pb2.Up]:
        yield link_pb2.Up(heartbeat=telemetry_pb2.Heartbeat(project_id=self._box.project, agent_id=self._box.name, epoch=self._epoch, boot_id=bytes(16), challenge=bytes(12), clock_trusted=True))
        while True:
            yield await self._outbox.get()

    async def talk(self) -> None:
        """Keep the link; the gateway may not have heard of us at first."""
        credentials = grpc.ssl_channel_credentials(self._authority, (self._folder / "agent.key").read_bytes(), (self._folder / "agent.pem").read_bytes())
        address, options = f"{self._box.settings.reached_at}:{self._box.settings.gateway_port}", [("grpc.ssl_target_name_override", "kang-gateway")]
        while True:
            async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
                call = channel.stream_stream("/kang.v1.EdgeLink/Connect", request_serializer=link_pb2.Up.SerializeToString, response_deserializer=link_pb2.Down.FromString)(self._words())
                with contextlib.suppress(grpc.RpcError):
                    async for down in call:
                        self._welcome.set()
                        if down.HasField("ack") and down.ack.epoch == self._epoch:
                            self.acked.update(i for r in down.ack.ranges for i in range(r.first, r.last + 1))
            await asyncio.sleep(0.2)

    async def settled(self) -> bool:
        """Two genuine results, one after the other, are acknowledged: what was said before them has been judged."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15):
                await self._welcome.wait()
                for _ in range(2):
                    await self._acknowledged()
                return True
        return False

    async def _acknowledged(self) -> None:
        while True:
            number, wire = self.result()
            self.say(wire)
            for _ in range(20):
                await asyncio.sleep(0.05)
                if number in self.acked:
                    return


async def results(box: Box, authority: bytes, elsewhere: int) -> list[Row]:
    """Everything the box must not be believed."""
    liar = Liar(box, authority)
    talking = asyncio.create_task(liar.talk())
    try:
        if not await liar.settled():
            return [Row(RESULTS, "the genuine one must be taken", False, "no acknowledgement")]
        cases = [("signed by a key of nobody", liar.result(key=Ed25519PrivateKey.generate())), ("in another agent's name", liar.result(agent="another")),
                 ("whose number contradicts its envelope", liar.result(shift=7)), ("signed in another agent's name", liar.result(sender=subjects.agent_identity(elsewhere, "another"))),
                 ("sealed for somebody else", liar.result(receiver=subjects.COMMAND_IDENTITY)),
                 *((f"in suite {suite.text}, which this box is not of", liar.result(key=suites.signing_key(suite))) for suite in keys.suites_here() if suite is not Suite.STD)]
        number, wire = liar.result()
        for _, (_, sealed) in cases:
            liar.say(sealed)
        for _ in range(FLIPS):
            bit, changed = secrets.randbelow(len(wire) * 8), bytearray(wire)
            changed[bit // 8] ^= 1 << bit % 8
            liar.say(bytes(changed))
        judged = await liar.settled()
        told = [("the genuine one must be taken", judged, "acknowledged" if judged else "no acknowledgement")]
        told += [(name, n not in liar.acked, "acknowledged" if n in liar.acked else "not acknowledged") for name, n in [*((name, n) for name, (n, _) in cases), (f"{FLIPS} single flipped bits", number)]]
        return [Row(RESULTS, *row) for row in told]
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
