"""What must hold when the faults are over and everything has drained. Each check names what it saw.

Must not know: how it came about.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cloud.control.states import FINAL, FROM_STAGE, State
from edge_agent.commands.journal import OPEN
from protos import batch, envelope
from protos.batch import Reading
from protos.kang.v1 import command_pb2 as pb
from tests.simulation import people
from tests.simulation.edge import Box, Effect, stage_at
from tests.simulation.store import reference_of

if TYPE_CHECKING:
    from tests.simulation.life import Life

Key = tuple[int, int, int, int]
_LIVE = frozenset({pb.STAGE_RECEIVED, pb.STAGE_EXECUTING, pb.STAGE_VERIFIED, pb.STAGE_UNKNOWN})
#: The floor under an untrusted clock is written down this often (`edge_agent.agent.FLOOR_MS`), looked at every ten seconds.
FLOOR_MS = 60_000
_SAFETY = ("emergency_stop", "restore_heat")


def quiet(life: Life) -> bool:
    """Nothing is under way any more."""
    return not unquiet(life)


def unquiet(life: Life) -> str:
    """What is still under way, "" when nothing."""
    for box in life.boxes:
        agent = box.agent
        if not agent.process.alive:
            return f"{box.agent_id} is down"
        if agent.spool.batches or agent.spool.undated or agent._dated or agent._undated:
            return f"{box.agent_id} has {agent.spool.batches} batches, {agent.spool.undated} undated readings"
    if not life.control.process.alive:
        return "the command service is down"
    for row in life.control.desk.journal.open_rows():
        if row["state"] != State.UNKNOWN:
            return f"command {row['id'][:6]} is {row['state']}"
    for box in life.boxes:
        if box.stages:
            if box.agent.journal.open_entries():
                return f"{box.agent_id} has open commands"
            if box.agent.journal.pending(0, 1):
                return f"{box.agent_id} has results nobody acknowledged"
    return ""


def judge(life: Life) -> None:
    """Every invariant."""
    _alarms(life, _readings(life))
    _books(life)
    _commands(life)
    for box in life.boxes:
        _device(life, box)
        _journal_time(life, box)


# --- readings


def _readings(life: Life) -> Mapping[Key, set[tuple[float, int]]]:
    """Returns what was sealed: key -> (value, quality) of every reading of it."""
    violate, engine = life.world.violate, life.engine
    expected: dict[Key, set[tuple[float, int]]] = defaultdict(set)
    aside: dict[Key, set[tuple[float, int]]] = defaultdict(set)
    unread: Counter[str] = Counter()
    for row in engine.tables["quarantine"].values():
        reason = row["reason"].decode()
        life.world.count(f"quarantine {reason}")
        if reason == "chain":
            violate(f"a false chain error: {row['detail'].decode()} of {row['agent_id'].decode()}")
        if reason.startswith("envelope_"):
            unread[row["agent_id"].decode()] += 1
            continue
        if reason != "clock":
            violate(f"{row['rows']} readings of {row['agent_id'].decode()} set aside without cause: {reason} {row['detail'].decode()}")
        for r in batch.readings(batch.parse(row["payload"])):
            aside[row["project_id"], r.device_id, r.point_id, r.at_ms].add((r.value, r.quality))
    for box in life.boxes:
        sealed: set[Reading] = set()
        numbers = sorted(sequence for _, sequence in box.batches)
        if numbers != list(range(1, len(numbers) + 1)):
            violate(f"{box.agent_id} did not number its batches 1, 2, 3 ...: {numbers[:20]}")
        previous = envelope.GENESIS
        for (epoch, sequence), data in sorted(box.batches.items(), key=lambda item: item[0][1]):
            signed = envelope.Signed.from_bytes(data)
            if envelope.Header.unpack(signed.header).previous != previous:
                violate(f"{box.agent_id} broke its chain at batch {sequence}")
            previous = signed.digest
            if not engine.holds(box.project_id, box.agent_id, epoch, sequence):
                violate(f"batch {sequence} of {box.agent_id} is neither in the historian nor in the quarantine")
            rows = list(batch.readings(batch.parse(signed.body)))
            life.world.count("readings", len(rows))
            sealed.update(rows)
            for r in rows:
                key = (box.project_id, r.device_id, r.point_id, r.at_ms)
                expected[key].add((r.value, r.quality))
                if key not in engine.raw and (r.value, r.quality) not in aside.get(key, ()) and not unread[box.agent_id]:
                    violate(f"a reading is lost: {box.agent_id} batch {sequence} {r}")
        for r in box.promised:
            if r not in sealed:
                violate(f"{box.agent_id} took a reading and did not seal it: {r}")
    for key, row in engine.raw.items():
        life.world.count("rows written twice, merged by key", row.copies - 1)
        if (row.value, row.quality) not in expected.get(key, ()):
            violate(f"the historian holds what nobody measured, or changed it: {key} = {row.value} quality {row.quality} (batch {reference_of(row)})")
    return expected


# --- alarms and books


def _alarms(life: Life, sealed: Mapping[Key, set[tuple[float, int]]]) -> None:
    violate, engine = life.world.violate, life.engine
    spans: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for row in engine.tables["alarm"].values():
        spans[row["device_id"], row["rule"].decode()].append((row["raised"], row["cleared"] or 1 << 60))
    life.world.count("alarms", sum(map(len, spans.values())))
    causes: dict[tuple[int, int], dict[int, set[float]]] = defaultdict(lambda: defaultdict(set))
    for (_, device, point, at), values in sealed.items():
        causes[device, point][at].update(value for value, quality in values if quality not in (2, 3))
    for box in life.boxes:
        device = box.boiler.device
        for rule in people.device_info(device, box.project_id, box.agent_id).alarms:
            mine = sorted(spans.get((device, rule.id), ()))
            for (_, end), (start, _) in zip(mine, mine[1:], strict=False):
                if start < end:
                    violate(f"alarm {rule.id} of device {device} was raised again at {start} while it stood until {end}: {mine}")
            good = sorted((k[3], r.value) for k, r in engine.raw.items() if k[1] == device and k[2] == rule.point_id and r.quality not in (2, 3))
            measured = causes[device, rule.point_id]
            for start, _ in mine:
                if not any(value > rule.limit for value in measured.get(start, ())):
                    violate(f"alarm {rule.id} of device {device} was raised at {start} without a cause: {measured.get(start)}")
            doubtful = any(k[3] >= good[-1][0] for k, r in engine.raw.items() if k[1] == device and k[2] == rule.point_id and r.quality in (2, 3)) if good else False
            if good and not doubtful:  # a newer bad or stale value: what came late behind it is not judged
                stands = any(end == 1 << 60 for _, end in mine)
                if good[-1][1] > rule.limit and not stands:
                    violate(f"device {device}: {rule.id} should stand, the newest value is {good[-1]}; alarms {mine}")
                if good[-1][1] <= rule.limit - rule.hysteresis and stands:
                    violate(f"device {device}: {rule.id} stands though the newest value is {good[-1]}; alarms {mine}")


def _books(life: Life) -> None:
    for row in life.engine.tables["gap"].values():
        life.world.count("gaps reported")
        if not row["healed"]:
            life.world.violate(f"gap {row['first_seq']}..{row['last_seq']} of {row['agent_id'].decode()} was never closed")


# --- commands


def _commands(life: Life) -> None:
    violate, journal = life.world.violate, life.control.desk.journal
    broken = journal.verify_audit()
    if broken is not None:
        violate(f"the audit chain is broken at {broken}")
    entries: dict[str, Any] = {}
    for box in life.boxes:
        for command, moves in box.stages.items():
            entries[command.hex()] = (box, moves)
    rows = journal.select(project_id=None, device_id=None, limit=1000, before_ms=None)
    keys = Counter(row["key"] for row in rows)
    if any(n > 1 for n in keys.values()):
        violate("one idempotency key made two commands")
    for row in rows:
        state = State(row["state"])
        life.world.count(f"commands {state}")
        name = f"{row['kind']} {row['id'][:6]} (device {row['device_id']} v{row['version']})"
        if state not in FINAL and state is not State.UNKNOWN:
            violate(f"{name} never ended: {state}")
        known = entries.get(row["id"])
        if known is None:
            if state not in (State.EXPIRED, State.SUPERSEDED) and not (state is State.UNKNOWN and row["maybe_delivered"]):
                violate(f"{name} is {state}, and the agent never had it")
        elif FROM_STAGE[known[1][-1][1]] is not state:
            violate(f"{name} is {state} on the platform, the agent says {FROM_STAGE[known[1][-1][1]]}: {[s['state'] + ' ' + s['code'] for s in journal.view(row)['steps']]}")
        stages = [stage for _, stage in known[1]] if known else []
        if row["kind"] in _SAFETY and (state is State.REFUSED or pb.STAGE_REFUSED in stages or pb.STAGE_EXPIRED in stages):
            violate(f"a safety act was refused: {name} {row['code']} {stages}")
        if known:
            _effects(life, row, name, state, [e for e in known[0].boiler.log if e.command.hex() == row["id"]])
        times = [s["at_ms"] for s in journal.view(row)["steps"]]
        if times != sorted(times):
            violate(f"time goes backwards in the steps of {name}: {times}")


def _effects(life: Life, row: Any, name: str, state: State, effects: list[Effect]) -> None:
    violate, done = life.world.violate, sum(e.done for e in effects)
    if row["kind"] == "pulse":
        if done > 1:
            violate(f"{name} was executed {done} times")
        if state is State.VERIFIED and done != 1:
            violate(f"{name} is verified and was executed {done} times")
        if done and (state in (State.EXPIRED, State.REFUSED, State.SUPERSEDED) or (state is State.FAILED and row["code"] != "not_verified")):
            violate(f"{name} is {state} {row['code']} and was executed")
    elif (state is State.VERIFIED and not done and row["kind"] in ("start", "stop", "emergency_stop", "restore_heat")) or (state is State.VERIFIED and not done and row["kind"] == "hold" and row["value"] is not None):
        violate(f"{name} is verified and the device was never written")
    elif done and state in (State.EXPIRED, State.REFUSED):
        violate(f"{name} is {state} and the device was written")


def _device(life: Life, box: Box) -> None:
    """What one boiler felt, against what its agent had journalled at that moment."""
    journal, violate = life.control.desk.journal, life.world.violate
    newest: dict[tuple[str, int], tuple[int, str]] = {}
    for effect in box.boiler.log:
        row = journal.row(effect.command.hex()) if effect.command else None
        if row is None:
            continue  # the agent's own authority: interlock, frost
        name = f"{row['kind']} {row['id'][:6]} v{row['version']} on device {box.boiler.device} at {effect.at:.3f}"
        stage = stage_at(box.stages, effect.command, effect.at)
        stops = row["kind"] in ("stop", "emergency_stop") and stage == pb.STAGE_FAILED
        if stage not in _LIVE and not stops:
            violate(f"{name} was written while it was {FROM_STAGE[stage] if stage else 'not journalled'}: {effect.point} = {effect.value}")
        if row["kind"] == "pulse":
            if stage not in OPEN:
                violate(f"{name}: a pulse went out while it was {FROM_STAGE[stage] if stage else 'not journalled'}")
            continue
        if row["kind"] != "restore_heat" and row["expires_ms"] and effect.wall_ms > row["expires_ms"] and row["kind"] not in _SAFETY:
            violate(f"{name} was written {effect.wall_ms - row['expires_ms']} ms after it expired")
        if row["kind"] != "emergency_stop":
            locked = next((on for at, on in reversed(box.lockouts) if at <= effect.at), False)
            if locked:
                violate(f"{name} was written under a lockout")
        if row["kind"] == "hold":
            slot = (effect.point, row["authority"])
            if slot in newest and row["version"] < newest[slot][0]:
                violate(f"{name} was written after version {newest[slot][0]} ({newest[slot][1]})")
            newest[slot] = (row["version"], row["id"][:6])


def _journal_time(life: Life, box: Box) -> None:
    """Results carry the agent's time, in the order of its journal; a clock that is set may step by what it was wrong, never behind its floor."""
    times = box.result_times
    for before, after in zip(times, times[1:], strict=False):
        if after < before - FLOOR_MS - 15_000:
            life.world.violate(f"{box.agent_id}: time went backwards in its journal by {before - after} ms")
            return
