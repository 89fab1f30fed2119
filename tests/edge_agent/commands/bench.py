"""A bench for the desk: a command service with real keys, a device that is a dictionary, time that is a number."""

from __future__ import annotations

import itertools
import os
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.clock import Now
from edge_agent.commands.actuation import Actuation, Outcome
from edge_agent.commands.desk import Desk, Device, Image
from edge_agent.commands.journal import Journal
from edge_agent.templates import builtin
from protos import envelope, subjects
from protos.arbitration import Authority
from protos.kang.v1 import command_pb2 as pb
from protos.kang.v1 import plan_pb2
from protos.points import point

T0 = 1_795_000_000_000
AGENT = subjects.agent_identity(7, "a1")
SIGNING = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
COMMANDER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
BOX = X25519PrivateKey.from_private_bytes(b"\x03" * 32)
CHALLENGE = b"challenge-12"
STAGES = {v: k.removeprefix("STAGE_").lower() for k, v in pb.Stage.items()}


class Plant:
    """One device: what is written is kept; the rest behaves as simply as possible."""

    def __init__(self, values: dict[str, float], follows: dict[str, str]) -> None:
        self.values = values
        self.follows = follows       # written point -> point that shows the effect
        self.writes: list[tuple[str, float]] = []
        self.answer = Outcome.DONE
        self.dead = False

    def write(self, key: str, value: float) -> Outcome:
        if self.answer is Outcome.DONE or self.answer is Outcome.MAYBE:
            self.writes.append((key, value))
            self.values[key] = value
            if key in self.follows:
                self.values[self.follows[key]] = value
            if key == "reset_command":
                self.values["fault_code"] = 0.0
        return self.answer


def boiler(**values: float) -> Plant:
    return Plant({"run_state": 0, "local_manual": 0, "low_water_alarm": 0, "water_level": 60, "leaving_temp": 50, "entering_temp": 40, "leakage_alarm": 0, "phase_loss_alarm": 0,
                  "fault_code": 0, "active_power": 0, "leaving_temp_setpoint": 45, "power_limit_setpoint": 1000, "enable_command": 0, "stage_command": 0, "reset_command": 0, **values},
                 {"enable_command": "run_state"})


def pump(**values: float) -> Plant:
    return Plant({"run_state": 0, "local_manual": 0, "phase_loss_alarm": 0, "suction_pressure": 200, "return_temp": 35, "fault_code": 0, "speed": 0, "speed_setpoint": 50, "enable_command": 0, **values},
                 {"enable_command": "run_state", "speed_setpoint": "speed"})


class Bench:
    """Desk, actuation and one device (id 1)."""

    def __init__(self, path, template: str = "electric_boiler_modbus", plant: Plant | None = None) -> None:
        self.path = path
        self.plant = plant or boiler()
        self.device = Device(1, builtin(template), builtin(template).points)
        self.mono = 1000
        self.sequence = itertools.count(1)
        self.versions: dict[int, itertools.count] = {}
        self.image = Image()
        self.trusted = True
        self.restart()

    def restart(self) -> None:
        """The box loses power: everything but the journal is gone."""
        self.journal = Journal(self.path, project_id=7, agent_id="a1", signing_key=SIGNING, new_epoch=os.urandom(16))
        self.desk = Desk(self.journal, {1: self.device}, project_id=7, opener=envelope.Opener(AGENT, BOX), command_key=COMMANDER.public_key(), known_challenge=lambda c: c == CHALLENGE,
                         agent_id="a1")
        self.actuation = Actuation(self.desk, self.now)

    @property
    def now(self) -> Now:
        return Now(T0 + self.mono, self.mono, self.trusted)

    def command(self, kind: str, key: str = "", value: float | None = None, **fields) -> pb.Command:
        point_id = point(key).id if key else 0
        version = fields.pop("version", None) or next(self.versions.setdefault(point_id, itertools.count(1)))
        fields.setdefault("authority", Authority.OPERATOR)
        fields.setdefault("expires_ms", self.now.wall_ms + 3_600_000)
        fields.setdefault("deadline_ms", self.now.wall_ms + 30_000)
        fields.setdefault("holder", "op")
        fields.setdefault("fencing", 1)
        return pb.Command(command_id=os.urandom(16), project_id=7, device_id=1, point_id=point_id, kind=pb.CommandKind.Value(f"COMMAND_KIND_{kind.upper()}"), value=value, version=version, **fields)

    def seal(self, command: pb.Command, *, key: Ed25519PrivateKey = COMMANDER, challenge: bytes = CHALLENGE, receiver: str = AGENT, sequence: int | None = None) -> bytes:
        header = envelope.Header(envelope.Kind.COMMAND, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(receiver), b"s" * 16,
                                 sequence or next(self.sequence), self.now.wall_ms, command.deadline_ms, challenge=challenge, priority=0)
        return envelope.Sealer(BOX.public_key().public_bytes_raw()).seal(envelope.sign(header, command.SerializeToString(), key))

    def give(self, command: pb.Command, **how) -> bool:
        return self.desk.receive(self.seal(command, **how), self.now, {1: self.image})

    def plan(self, tracks: list[dict], *, version: int = 1, start: int | None = None, step_s: int = 900, fencing: int = 1, key: Ed25519PrivateKey = COMMANDER, agent: str = "a1") -> bool:
        """Give a plan; a track is {key, value, low, high, authority}, numbers per interval."""
        document = plan_pb2.Plan(project_id=7, agent_id=agent, version=version, plan_id=f"p{version}", start_ms=self.now.wall_ms if start is None else start, step_s=step_s)
        for t in tracks:
            packed = {k: struct.pack(f"<{len(t[k])}d", *t[k]) for k in ("value", "low", "high") if k in t}
            document.tracks.add(device_id=t.get("device", 1), point_id=t["point"] if "point" in t else point(t["key"]).id, authority=t.get("authority", Authority.PLAN), holder="plan", **packed)
        body = plan_pb2.PlanDelivery(fencing=fencing, document=document.SerializeToString()).SerializeToString()
        header = envelope.Header(envelope.Kind.PLAN, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(AGENT), b"s" * 16, next(self.sequence), self.now.wall_ms, 0,
                                 challenge=CHALLENGE, priority=8)
        return self.desk.receive(envelope.Sealer(BOX.public_key().public_bytes_raw()).seal(envelope.sign(header, body, key)), self.now, {1: self.image})

    def look(self) -> None:
        self.image = Image({} if self.plant.dead else dict(self.plant.values), self.mono)

    def cycle(self, seconds: float = 1.0, *, look: bool = True) -> None:
        """One turn of the agent: read, judge, decide, write."""
        self.mono += int(seconds * 1000)
        if look:
            self.look()
        self.actuation.observe(self.now, {1: self.image})
        for act in self.actuation.plan(self.now, {1: self.image}):
            fresh = {} if self.plant.dead else self.plant.values
            forbidden = self.actuation.permit(act, fresh) if act.needs else ""
            if forbidden:
                self.actuation.forbidden(act, forbidden, self.now)
            elif self.actuation.begin(act, self.now, self.image):
                self.actuation.done(act, self.plant.write(act.spec.key, act.value), self.now)

    def run(self, seconds: float, step: float = 1.0) -> None:
        for _ in range(int(seconds / step)):
            self.cycle(step)

    def do(self, kind: str, key: str = "", value: float | None = None, *, seconds: float = 3, **fields) -> pb.Command:
        command = self.command(kind, key, value, **fields)
        assert self.give(command)
        self.run(seconds)
        return command

    def results(self, command: pb.Command | None = None) -> list[str]:
        return [STAGES[r.stage] + (f":{r.code}" if r.code else "") for r in self.journal.results() if command is None or r.command_id == command.command_id]

    def last(self, command: pb.Command) -> pb.Result:
        return [r for r in self.journal.results() if r.command_id == command.command_id][-1]

    def stage(self, command: pb.Command) -> str:
        return self.results(command)[-1]


def point_name(point_id: int) -> str:
    from protos.points import BY_ID
    return BY_ID[point_id].key
