"""Command envelopes over the real road: replayed, stale, reordered, flipped, redirected, forged; our own box must obey none of them.

Must not know: how the agent judges; it sees only what is answered.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.attack.box import Box, own_box
from cloud.attack.leavings import Leavings
from cloud.attack.lies import results
from cloud.attack.rows import Row
from cloud.core.clock import now_ms
from cloud.core.settings import Settings
from cloud.security import keys
from protos import envelope, subjects
from protos.kang.v1 import command_pb2 as pb
from protos.suites import Suite

COMMANDS: Final = "command road"


def tried(settings: Settings, project: int, elsewhere: int, authority: bytes, made: Leavings) -> list[Row]:
    """All of it; the box is revoked at the end."""
    with tempfile.TemporaryDirectory(prefix="kang-attack-") as folder:
        return asyncio.run(_tried(settings, project, elsewhere, authority, Path(folder), made))


async def _tried(settings: Settings, project: int, elsewhere: int, authority: bytes, folder: Path, made: Leavings) -> list[Row]:
    async with own_box(settings, project, folder, made) as box:
        rows = await results(box, authority, elsewhere)
        if not await box.start():
            return [*rows, Row(COMMANDS, "the box must be heard", False, (folder / "agent.log").read_text(errors="replace")[-300:])]
        return rows + await _commands(box, elsewhere)


async def _commands(box: Box, elsewhere: int) -> list[Row]:
    first = box.command()
    wire = box.seal(first)
    begun = time.monotonic()
    handed = 0
    for bit in range(len(wire) * 8):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        handed += await box.send(bytes(flipped))
        if bit % 8 == 0 and bit // 8 % 40 == 0:
            await box.send(wire[:bit // 8])  # cut short
    settled = await box.settled()
    obeyed = sum(i == first.command_id for i, _, _ in box.said)
    rows = [Row(COMMANDS, f"{len(wire) * 8} single flipped bits of a genuine command", settled and obeyed == 0 and handed == len(wire) * 8,
                f"{handed} handed over, {obeyed} answered, {time.monotonic() - begun:.1f} s")]
    await box.send(wire)
    await box.settled()
    rows.append(Row(COMMANDS, "the genuine one must be taken", not box.answer(first.command_id)[0], box.answer(first.command_id)[1]))
    since = len(box.said)
    await box.send(wire)
    await box.send(wire)
    await box.settled()
    rows.append(Row(COMMANDS, "a taken command replayed", *box.answer(first.command_id, since)))
    older, newer = box.command(value=20.0), box.command(value=25.0, version=now_ms() + 1, created_ms=now_ms() + 1)
    late, early = box.seal(older), box.seal(newer)
    await box.send(early)
    await box.send(late)
    await box.settled()
    rows.append(Row(COMMANDS, "the newer one of two must be taken", not box.answer(newer.command_id)[0], box.answer(newer.command_id)[1]))
    rows.append(Row(COMMANDS, "two commands in the wrong order: the older one", *box.answer(older.command_id)))
    rows += await _forged(box, elsewhere)
    box.kill()
    if not await box.start():
        return [*rows, Row(COMMANDS, "the box must be heard again", False, "silent")]
    since = len(box.said)
    await box.send(wire)
    await box.send(box.seal(first, sequence=1))  # the used number with the new word: only what the box has journalled can refuse it
    await box.settled()
    rows.append(Row(COMMANDS, "replayed after the box was killed, with a fresh challenge", *box.answer(first.command_id, since)))
    return rows


async def _forged(box: Box, elsewhere: int) -> list[Row]:
    """One thing wrong with each."""
    now, rogue = now_ms(), Ed25519PrivateKey.generate()
    cases: list[tuple[str, pb.Command, dict[str, Any]]] = [
        ("stale: echoes a challenge of another day", box.command(), {"challenge": os.urandom(12)}), ("echoes no challenge", box.command(), {"challenge": bytes(12)}),
        ("stale: its deadline is over", box.command(deadline_ms=now - 1000), {}), ("signed by a key of nobody", box.command(), {"key": rogue}),
        *((f"in suite {suite.text}, by the platform's genuine key of it", box.command(), {"key": key}) for suite, key in keys.signing_keys(box.settings.credentials, "command").items() if suite is not Suite.STD),
        ("for another box", box.command(), {"receiver": subjects.agent_identity(elsewhere, "another")}), ("in an envelope of another kind", box.command(), {"kind": envelope.Kind.PLAN}),
        ("from a command service that was replaced", box.command(fencing=0), {}), ("for another project", box.command(project_id=elsewhere), {}),
        ("for a device of another box", box.command(device_id=1), {}), ("a hold without end", box.command(expires_ms=now + 400 * 86_400_000), {}),
        ("with the authority of an emergency stop", box.command(authority=1), {}), ("out of the device's range", box.command(value=500.0), {}), ("not a number", box.command(value=float("nan")), {})]
    for _, command, options in cases:
        await box.send(box.seal(command, **options))
    await box.send(os.urandom(400))
    await box.settled()
    rows = [Row(COMMANDS, name, *box.answer(command.command_id)) for name, command, _ in cases]
    far = box.command()
    await box.send(box.seal(far, sequence=box.sequence + 100_000))
    behind = box.command()
    await box.send(box.seal(behind, sequence=box.sequence + 2))
    box.sequence += 100_001
    await box.settled()
    rows.append(Row(COMMANDS, "a number from before the window", *box.answer(behind.command_id)))
    return rows
