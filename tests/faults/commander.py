"""Gives commands under faults and judges afterwards whether every state told is true.

The fields remember every write; set-points rise per device, so that an old value after a newer one is seen at once.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections import Counter
from typing import Any

from benchmarks.rig.build import RigAgent
from benchmarks.rig.field import writes
from cloud.bus.connection import connect
from cloud.control.client import ControlClient, ControlRefusedError, ControlUnavailableError
from cloud.core.ports import CommandRequest
from cloud.core.settings import Settings
from protos.points import point

SETPOINT, RESET = point("leaving_temp_setpoint").id, point("reset_command").id
#: Control is suspended while the audit chain is behind: a truth on a starved machine, not a fault.
AUDIT_BEHIND = "E-AUDIT-LAG"
FINAL = {"verified", "failed", "expired", "superseded", "refused"}


class Commander:
    """A thread with its own loop: one command every half second."""

    def __init__(self, settings: Settings, agents: list[RigAgent], rng: random.Random) -> None:
        self._settings, self._agents = settings, agents
        self._random = random.Random(rng.random())
        self._given: dict[str, dict[str, Any]] = {}
        self._next: Counter[int] = Counter()
        self._pending: list[CommandRequest] = []
        self._views: dict[str, dict[str, Any]] = {}
        self._running = threading.Event()
        self._paused = threading.Event()
        self._suspended = 0
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name="commander", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._running.set()
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._running.clear()
        self._thread.join(20)

    def settled(self) -> bool:
        """True when nothing is open; meanwhile nothing new is given."""
        self._paused.set()
        done = all(v["state"] in FINAL or (v["state"] == "unknown" and v["handed"]) for k, v in list(self._views.items())) and len(self._views) == len(self._given)
        return bool(self._broken) or bool(done and not self._pending)

    def judge(self) -> tuple[dict[str, int], list[str]]:
        """(states, what was untrue); giving goes on afterwards."""
        problems = [self._broken] if self._broken else []
        for agent in self._agents:
            log = writes(agent.field_log)
            for unit, device_id in enumerate(agent.devices, 1):
                mine = [v for v in self._views.values() if v["device_id"] == device_id]
                problems += self._setpoints(device_id, [w for w in log if w["unit"] == unit and w["what"] == "setpoint"], [v for v in mine if v["kind"] == "hold"])
                problems += self._pulses(device_id, [w for w in log if w["unit"] == unit and w["what"] == "pulse" and w["value"]], [v for v in mine if v["kind"] == "pulse"])
        states: Counter[str] = Counter(v["state"] for v in self._views.values())
        self._paused.clear()
        if self._suspended:
            states["asked again, audit behind"], self._suspended = self._suspended, 0
        return dict(states), problems

    @staticmethod
    def _setpoints(device_id: int, log: list[dict[str, Any]], views: list[dict[str, Any]]) -> list[str]:
        problems = []
        values = [w["value"] for w in log]
        if any(b < a for a, b in zip(values, values[1:], strict=False)):
            problems.append(f"device {device_id}: an older set-point was written after a newer one: {values[-20:]}")
        written = set(values)
        for view in views:
            value = round(view["value"] * 100)
            if view["state"] == "verified" and value not in written:
                problems.append(f"device {device_id}: {view['id']} is called verified, {value} was never written")
            if view["state"] in ("expired", "refused") and value in written:
                problems.append(f"device {device_id}: {view['id']} is called {view['state']}, {value} was written")
        return problems

    @staticmethod
    def _pulses(device_id: int, log: list[dict[str, Any]], views: list[dict[str, Any]]) -> list[str]:
        sure = sum(v["state"] == "verified" for v in views)
        maybe = sum(v["state"] in ("unknown", "failed") for v in views)
        if not sure <= len(log) <= sure + maybe:
            return [f"device {device_id}: {len(log)} pulses written; {sure} verified, {maybe} undecided"]
        return []

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except Exception as error:
            self._broken = f"the commander ended: {type(error).__name__} {error}"
            raise

    async def _work(self) -> None:
        client = await connect(self._settings.effective_nats_url, self._settings.credentials, "commander")
        control = ControlClient(client, timeout_s=2)
        last = 0.0
        while self._running.is_set():
            if not self._paused.is_set() and time.monotonic() - last > 0.5:
                last = time.monotonic()
                self._pending.append(self._wish())
            for request in list(self._pending):
                try:
                    view = await control.submit(request)
                except ControlUnavailableError:
                    break
                except ControlRefusedError as error:
                    if error.code == AUDIT_BEHIND:
                        self._suspended += 1
                        break
                    raise AssertionError(f"refused: {error}") from error
                self._pending.remove(request)
                self._given[view["id"]] = self._views[view["id"]] = view
            await self._look(control)
            await asyncio.sleep(0.1)
        await client.close()

    async def _look(self, control: ControlClient) -> None:
        for command_id, view in list(self._views.items()):
            if view["state"] in FINAL or (view["state"] == "unknown" and view["handed"] and not self._paused.is_set()):
                continue
            try:
                fresh = await control.get(command_id)
            except ControlUnavailableError:
                return
            assert fresh is not None, f"command {command_id} was accepted and is gone"
            self._views[command_id] = fresh

    def _wish(self) -> CommandRequest:
        agent = self._random.choice(self._agents)
        device_id = self._random.choice(agent.devices)
        common: dict[str, Any] = {"project_id": agent.project_id, "device_id": device_id, "hold_s": 86_400, "deadline_s": 20, "actor": "campaign", "idempotency_key": uuid.uuid4().hex}
        if self._random.random() < 0.25:
            return CommandRequest(kind="pulse", point_id=RESET, value=1.0, **common)
        self._next[device_id] += 1
        return CommandRequest(kind="hold", point_id=SETPOINT, value=self._next[device_id] / 100, **common)
