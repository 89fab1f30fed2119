"""The ports of `cloud.core.ports` in one process, for tests and for looking at the pages: a smooth, seeded plant that answers like the
real one. It stands under tests/ only; the product has no such thing.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from cloud.core.clock import now_ms
from cloud.core.ports import CommandRequest, DeviceInfo, Latest, ProjectDirectory, Series
from protos.points import BY_ID

DAY = 86_400_000


class Plant:
    """Values of every point at every time, from sines and the device's number: same question, same answer."""

    def __init__(self, directory: ProjectDirectory) -> None:
        self.directory = directory
        self.overrides: dict[tuple[int, int], float] = {}

    def value(self, device: DeviceInfo, point_id: int, at_ms: int) -> float:
        if (device.id, point_id) in self.overrides:
            return self.overrides[device.id, point_id]
        key, hour = BY_ID[point_id].key, (at_ms / 3_600_000 + 8) % 24
        wave = math.sin(at_ms / 4.1e6 + device.id) + 0.4 * math.sin(at_ms / 7.7e5 + 2.3 * device.id)
        night = 1.0 if hour >= 23 or hour < 7 else 0.0
        load = 0.55 + 0.18 * math.cos((hour - 5) / 24 * 2 * math.pi)
        outdoor = -4.0 + 5.0 * math.sin((hour - 9) / 24 * 2 * math.pi)
        if key == "outdoor_temp":
            return round(outdoor + 0.2 * wave, 1)
        if key == "active_power":
            return round(max(0.0, self._power(device, night, load) * (1 + 0.03 * wave)), 1)
        if key == "room_temp":
            return round(19.6 + 0.9 * wave - (2.6 if device.attributes.get("corner") and device.attributes.get("top") else 0.0), 1)
        if key.startswith("layer_temp_"):
            return round(76 - 3.2 * int(key.rpartition("_")[2]) + 8 * (night - 0.5) + wave, 1)
        if key in ("energy_import", "heat_energy"):
            return round(120_000 + at_ms / 3_600_000 % 9000 * 300 * load, 1)
        table = {
            "supply_temp": 47 + 2 * wave, "return_temp": 38 + 1.2 * wave, "leaving_temp": 52 + 3 * wave, "entering_temp": 43 + 2 * wave,
            "leaving_temp_setpoint": 55.0, "room_temp_setpoint": 20.0, "soc": 50 + 38 * math.sin((hour - 2) / 24 * 2 * math.pi) + wave,
            "charge_power": 380 * night if device.rated_kw > 500 else 0.0, "discharge_power": 210 * (1 - night) if device.rated_kw > 500 else 18.0,
            "heating_capacity": self._power(device, night, load) * 2.7, "cop": 2.7 + 0.1 * wave, "flow": 44 + wave, "speed": 78 + 2 * wave,
            "speed_setpoint": 80.0, "heat_power": (520 if device.parent_id is None else 34) * load * (1 + 0.04 * wave), "load_ratio": 41 + 6 * wave, "power_factor": 0.985,
            "supply_pressure": 380 + 4 * wave, "return_pressure": 260 + 3 * wave, "wind_speed": 2.4 + wave, "humidity": 38 + 3 * wave,
            "cycle_on_ratio": 46 + 12 * wave, "stored_energy": 1400 + 900 * math.sin((hour - 2) / 24 * 2 * math.pi), "run_state": 1.0,
            "enable_command": 1.0, "valve_state": 1.0, "water_level": 72 + wave, "outlet_pressure": 340 + 4 * wave, "frequency": 50 + 0.01 * wave,
            "voltage_a": 231 + wave, "voltage_b": 230 + wave, "voltage_c": 229 + wave, "current_a": 900 * load, "current_b": 905 * load,
            "current_c": 898 * load, "compressor_frequency": 58 + 4 * wave, "stage_count_on": 4.0, "battery_voltage": 3.1}
        return round(float(table.get(key, 0.0)), 2)

    def _power(self, device: DeviceInfo, night: float, load: float) -> float:
        if device.profile == "electric_boiler":
            return device.rated_kw * (0.82 if night else 0.31)
        if device.profile == "heat_pump":
            return device.rated_kw * load
        if device.profile == "circulation_pump":
            return device.rated_kw * 0.6
        if device.profile == "room_heater":
            return device.rated_kw * load * 0.8
        total = sum(self._power(d, night, load) for d in self.directory.devices(device.project_id)
                    if d.profile in ("electric_boiler", "heat_pump", "circulation_pump", "room_heater"))
        return total * 1.04 + 6.0


class FakeHistorian:
    """Telemetry queries over the plant, plus alarms and quarantine given by the test."""

    def __init__(self, plant: Plant, now: Any = now_ms) -> None:
        self.plant = plant
        self.now = now
        self.silent: set[int] = set()          # devices that never reported
        self.aged: dict[int, int] = {}         # device -> age of its newest values, ms
        self.alarm_rows: list[dict[str, Any]] = []
        self.quarantine_rows: list[dict[str, Any]] = []
        self.calls = 0

    async def latest(self, project_id: int, device_ids: Sequence[int] | None = None) -> list[Latest]:
        self.calls += 1
        now = self.now()
        wanted = None if device_ids is None else set(device_ids)
        return [Latest(d.id, p, now - 2000 - self.aged.get(d.id, 0) - 400 * (p % 5), self.plant.value(d, p, now), 0)
                for d in self.plant.directory.devices(project_id) if d.id not in self.silent and (wanted is None or d.id in wanted) for p in d.points]

    async def history(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, *,
                      resolution_s: int | None = None, max_points: int = 2000) -> list[Series]:
        end_ms = min(end_ms, self.now())
        step = resolution_s if resolution_s is not None else next(
            r for r in (5, 60, 900, 3600, 86400) if (end_ms - start_ms) / 1000 / r <= max_points or r == 86400)
        step_ms = (step or 5) * 1000
        found = []
        for device_id, point_id in series:
            device = self.plant.directory.device(device_id)
            assert device is not None and device.project_id == project_id
            at = [t for t in range(-(-start_ms // step_ms) * step_ms, end_ms, step_ms) if not 3.0 < (t / 3_600_000) % 24 < 3.8]
            mean = [self.plant.value(device, point_id, t) for t in at]
            swing = [0.0 if step < 60 else abs(0.01 * v) + 0.05 for v in mean]
            found.append(Series(device_id, point_id, 0 if step < 60 else step, at, mean, [m - s for m, s in zip(mean, swing, strict=True)],
                                [m + s for m, s in zip(mean, swing, strict=True)], [1] * len(at), [0] * len(at)))
        return found

    async def alarms(self, *, project_id: int | None = None, active: bool | None = None, limit: int = 200, before_ms: int | None = None
                     ) -> list[dict[str, Any]]:
        rows = [a for a in self.alarm_rows if (project_id is None or a["project_id"] == project_id)
                and (active is None or (a["cleared_ms"] is None) == active) and (before_ms is None or a["raised_ms"] < before_ms)]
        return sorted(rows, key=lambda a: -a["raised_ms"])[:limit]

    async def quarantine(self, *, project_id: int | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        rows = [q for q in self.quarantine_rows if (project_id is None or q["project_id"] == project_id)
                and (before_ms is None or q["received_ms"] < before_ms)]
        return sorted(rows, key=lambda q: -q["received_ms"])[:limit]

    async def release(self, quarantine_id: str, *, offset_ms: int, actor: str) -> int:
        row = next(q for q in self.quarantine_rows if q["id"] == quarantine_id)
        row.update(state="released", offset_ms=offset_ms, actor=actor)
        return int(row["rows"])

    async def discard(self, quarantine_id: str, *, actor: str) -> None:
        next(q for q in self.quarantine_rows if q["id"] == quarantine_id).update(state="discarded", actor=actor)

    def raise_alarm(self, device_id: int, rule: str, age_s: int, *, cleared_s: int | None = None, value: float = 0.0) -> None:
        device = self.plant.directory.device(device_id)
        assert device is not None
        found = next(a for a in device.alarms if a.id == rule)
        now = self.now()
        self.alarm_rows.append({
            "id": uuid.uuid4().hex, "project_id": device.project_id, "device_id": device_id, "point_id": found.point_id, "rule": rule,
            "severity": found.severity, "zh": found.zh, "en": found.en, "raised_ms": now - age_s * 1000,
            "cleared_ms": None if cleared_s is None else now - cleared_s * 1000, "value": value, "limit": found.limit})


class FakeLive:
    """Agents as last heard, and a stream that repeats the plant."""

    def __init__(self, plant: Plant, now: Any = now_ms, *, period_s: float = 2.0) -> None:
        self.plant = plant
        self.now = now
        self.period_s = period_s
        self.offline: set[str] = set()
        self.device_states: dict[int, dict[str, Any]] = {}
        self.watchers: list[asyncio.Queue[dict[str, Any]]] = []

    def publish(self, event: dict[str, Any]) -> None:
        for queue in self.watchers:
            queue.put_nowait(event)

    async def watch(self, project_ids: Sequence[int], device_ids: Sequence[int] = ()) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.watchers.append(queue)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), self.period_s)
                    if event["project_id"] in project_ids:
                        yield event
                except TimeoutError:
                    now = self.now()
                    for project_id in project_ids:
                        rows = [[d.id, p, now, self.plant.value(d, p, now), 0] for d in self.plant.directory.devices(project_id)
                                if not device_ids or d.id in device_ids for p in d.points]
                        yield {"type": "values", "project_id": project_id, "rows": rows}
        finally:
            self.watchers.remove(queue)

    async def agents(self, project_id: int | None = None) -> list[dict[str, Any]]:
        now = self.now()
        found = []
        for agent in self.plant.directory.agents(project_id):
            online = agent.agent_id not in self.offline
            found.append({
                "project_id": agent.project_id, "agent_id": agent.agent_id, "online": online, "last_heard_ms": now - (1800 if online else 734_000),
                "clock_offset_ms": 12, "clock_trusted": True, "clock_source": "ntp", "spool_batches": 1 if online else 0, "spool_readings": 120,
                "oldest_ms": now - 4000, "version": "0.1.0", "cpu_share": 0.031, "rss_bytes": 61_000_000,
                "devices": [{"device_id": d.id, "online": True, "last_ok_ms": now - 2500, "error_code": "", "local_manual": False, "locked_out": False,
                             "lockout_holder": "", "lockout_reason": "", "holders": [], **self.device_states.get(d.id, {})}
                            for d in self.plant.directory.devices(agent.project_id)]})
        return found


_list = list  # FakeCommands has a method of that name


class FakeCommands:
    """A command service that walks the states with `step_s` between them."""

    def __init__(self, live: FakeLive, now: Any = now_ms, *, step_s: float = 0.0) -> None:
        self.live = live
        self.now = now
        self.step_s = step_s
        self.rows: dict[str, dict[str, Any]] = {}
        self.by_key: dict[tuple[str, str], str] = {}
        self.requests: list[CommandRequest] = []
        self.end = "verified"
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, request: CommandRequest) -> dict[str, Any]:
        known = self.by_key.get((request.actor, request.idempotency_key))
        if known:
            return self.rows[known]
        self.requests.append(request)
        now = self.now()
        row = {
            "id": uuid.uuid4().hex, "project_id": request.project_id, "device_id": request.device_id, "point_id": request.point_id, "kind": request.kind,
            "value": request.value, "low": request.low, "high": request.high, "authority": request.authority, "state": "accepted",
            "version": len(self.rows) + 1, "actor": request.actor, "reason": request.reason, "created_ms": now,
            "deadline_ms": now + int(request.deadline_s * 1000), "expires_ms": now + int(request.hold_s * 1000), "readback": None, "code": "", "detail": "",
            "verify_by_ms": None, "steps": [{"state": "accepted", "at_ms": now, "code": "", "detail": ""}]}
        self.rows[row["id"]] = row
        self.by_key[request.actor, request.idempotency_key] = row["id"]
        task = asyncio.create_task(self._walk(row))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return row

    async def _walk(self, row: dict[str, Any]) -> None:
        for state in ("sent", "received", "executing", self.end):
            await asyncio.sleep(self.step_s)
            now = self.now()
            row.update(state=state, **({"verify_by_ms": now + 20_000} if state == "executing" else {}))
            if state == "verified":
                row["readback"] = row["value"]
                if row["value"] is not None:
                    self.live.plant.overrides[row["device_id"], row["point_id"]] = row["value"]
                    self.live.device_states.setdefault(row["device_id"], {})["holders"] = [{
                        "point_id": row["point_id"], "authority": row["authority"], "value": row["value"], "until_ms": row["expires_ms"],
                        "holder": row["actor"], "reason": row["reason"], "command_id": row["id"]}]
            row["steps"].append({"state": state, "at_ms": now, "code": "", "detail": ""})
            self.live.publish({"type": "command", **row})

    async def get(self, command_id: str) -> dict[str, Any] | None:
        return self.rows.get(command_id)

    async def list(self, *, project_id: int | None = None, device_id: int | None = None, limit: int = 50, before_ms: int | None = None
                   ) -> list[dict[str, Any]]:
        rows = [r for r in self.rows.values() if (project_id is None or r["project_id"] == project_id)
                and (device_id is None or r["device_id"] == device_id) and (before_ms is None or r["created_ms"] < before_ms)]
        return sorted(rows, key=lambda r: -r["created_ms"])[:limit]

    async def plans(self, project_id: int) -> _list[dict[str, Any]]:
        return []

    async def cancel(self, command_id: str, *, actor: str) -> bool:
        row = self.rows[command_id]
        if row["state"] != "accepted":
            return False
        row.update(state="refused", code="E-CMD-CANCELLED", detail=actor)
        return True

    async def resolve(self, command_id: str, *, verified: bool, actor: str, reason: str) -> dict[str, Any]:
        row = self.rows[command_id]
        row.update(state="verified" if verified else "failed", detail=f"{actor}: {reason}")
        return row
