"""Re-plans a project from the running system: reads, learns, plans, keeps, sends. What fails is said and the last plan goes on.

Async over the ports; the solver runs in a thread. Must not know: NATS, Ray, FastAPI.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from cloud.core.ports import DeviceInfo, Historian, Latest, ProjectInfo
from cloud.functions.economic_operation.commitments import Commitment, capped, limits
from cloud.functions.economic_operation.errors import NothingToPlanError
from cloud.functions.economic_operation.learner import Learnt, from_register, learn, mass_now
from cloud.functions.economic_operation.planner import STEP_S, Comfort, Moment, Planned, Planner
from cloud.functions.economic_operation.service import EconomicService, Setting, published
from cloud.functions.economic_operation.site import Site, site
from cloud.functions.economic_operation.weather import STALE_H, Forecast, Provider, WeatherError, persistence
from optimizers.errors import OptimizerError
from optimizers.explanation import reasons, what_if
from optimizers.methods.dispatch import Dispatcher
from optimizers.plan import Plan
from optimizers.specification import Community
from optimizers.tariff.model import Tariff
from optimizers.tariff.rating import price_array
from protos.arbitration import Authority
from protos.errors import KangError
from protos.points import BY_ID, point

log = logging.getLogger("kang.planner")
Array = NDArray[np.float64]
HORIZON: Final = 192
LEARN_EVERY_MS: Final = 6 * 3_600_000
HISTORY_DAYS: Final = 21
FRESH_MS: Final = 30 * 60_000
TARIFFS: Final[dict[str, Tariff]] = {}


class Sender(Protocol):
    """The command service's road for plans: `cloud.control.client.ControlClient`."""

    async def plan(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Hand a plan over."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    """What a project would do without any commitment: what it can offer is counted from here."""

    community: Community
    grid_kw: Array
    start_ms: int


@dataclasses.dataclass(slots=True)
class _Known:
    planner: Planner
    version: tuple[int, int]
    learnt: Learnt
    learnt_ms: int = 0
    weather: Forecast | None = None
    own: dict[int, float] = dataclasses.field(default_factory=dict)
    plain: Plain | None = None


class Rolling:
    """Plans projects one by one, again and again."""

    def __init__(self, service: EconomicService, historian: Historian, sender: Sender, provider: Provider | None, now: Callable[[], int]) -> None:
        self._service, self._historian, self._sender, self._provider, self._now = service, historian, sender, provider, now
        self._known: dict[int, _Known] = {}

    async def plan(self, project: ProjectInfo, devices: Sequence[DeviceInfo], heard: Mapping[int, Mapping[str, Any]], setting: Setting, held: Sequence[Commitment] = ()) -> dict[str, Any]:
        """One project now.

        Args:
            project: the project.
            devices: its devices.
            heard: device -> what its agent said of it last (locked_out, local_manual).
            setting: how it is run.
            held: what it is committed to.

        Returns:
            {outcome: planned, shifted or failed; code; id}; never raises for what is wrong with one project.

        Raises:
            KangError: E-HISTORIAN, the historian does not answer.
        """
        now = self._now()
        start = now // (STEP_S * 1000) * STEP_S * 1000
        try:
            # Who holds a source for a while takes it from the plan for that while; rooms and what is locked are left out altogether.
            sources = {d.id for d in devices if d.profile in ("electric_boiler", "heat_pump")}
            held_h = {d: (h["held_until_ms"] - start) / 3_600_000 for d, h in heard.items() if d in sources and h.get("held_until_ms") and not h.get("local_manual")}
            locked = frozenset(d for d, h in heard.items() if (h.get("locked_out") and d not in held_h) or h.get("local_manual"))
            where = site(project.id, project.heated_area_m2, devices, locked)
            if not where.plannable:
                raise NothingToPlanError(problem_zh="没有可控的热源或房间", problem_en="there is no source and no room to move")
            known = await self._keeper(project.id, where, setting)
            values = _image(await self._historian.latest(project.id), now)
            self._own(where, known, values, heard)
            await self._learn(project, where, known, now)
            weather = await self._weather(project, where, known, now)
            moment = await self._moment(project, where, setting, weather, values, start, known.own, held_h)
            moment = dataclasses.replace(moment, limit_kw=limits(held, start, HORIZON, STEP_S * 1000))
            planned = await asyncio.to_thread(known.planner.plan, moment, known.learnt)
            known.plain = await asyncio.to_thread(_plain, planned, start)
        except (KangError, OptimizerError, ArithmeticError, ValueError, KeyError) as error:
            if isinstance(error, KangError) and error.code.startswith("E-HISTORIAN"):
                raise  # not this project's trouble: the caller waits for the historian
            outcome = await self._failed(project.id, start, error, setting)
            if held and setting.mode == "act":  # what was promised holds without a plan, too: by the box alone
                await self.cap(project, devices, held)
            return outcome
        document, summary = _document(planned, moment, weather, now, known.learnt)
        document["own_c"] = {str(d): c for d, c in known.own.items()}
        if moment.limit_kw is not None:
            document |= {"limit_kw": [round(float(x), 2) if math.isfinite(x) else None for x in moment.limit_kw], "plain_kw": _r(known.plain.grid_kw, 2), "held": [c.name for c in held]}
        plan_id = await asyncio.to_thread(lambda: self._service.keep(project_id=project.id, issued_ms=now, start_ms=start, step_s=STEP_S, outcome="planned", summary=summary, document=document))
        if setting.mode == "act":
            await self._sender.plan(capped(_body(project.id, plan_id, start, planned), held, where, _agent(where, devices)))
            await asyncio.to_thread(self._service.sent, plan_id)
        return {"outcome": "planned", "code": "", "id": plan_id, "cold_k": _cold(planned.plan)}

    def weather_age_h(self, project_id: int, now: int) -> float | None:
        """Age of the provider's forecast where it is too old to plan by, hours; infinite = none ever came; None = it is good, or no provider was set."""
        if self._provider is None or project_id not in self._known:
            return None
        known = self._known[project_id].weather
        age = math.inf if known is None else known.age_h(now)
        return None if age <= STALE_H else age

    def plain(self, project_id: int) -> Plain | None:
        """What the newest plan of a project would be without any commitment; None = not planned since the start."""
        known = self._known.get(project_id)
        return None if known is None else known.plain

    async def cap(self, project: ProjectInfo, devices: Sequence[DeviceInfo], held: Sequence[Commitment]) -> None:
        """Hold a project that nobody plans below its caps, by its own box alone; no commitment any more: let go.

        Raises:
            KangError: the command service refused, or is away.
        """
        start = self._now() // (STEP_S * 1000) * STEP_S * 1000
        where = site(project.id, project.heated_area_m2, devices)
        name = ",".join(c.name for c in held) or "released"
        body = {"project_id": project.id, "plan_id": f"cap-{name}-{self._now()}"[:100], "start_ms": start, "step_s": STEP_S, "actor": "planner", "channel": "planner", "tracks": []}
        made = capped(body, held, where, _agent(where, devices))
        await self._sender.plan(made if made.get("grid_cap_kw") is not None else {**body, "grid_cap_kw": [None], **({"grid_cap_agent": agent} if (agent := _agent(where, devices)) else {})})

    async def release(self, project_id: int) -> None:
        """Put back what residents chose, for half an hour; other actuators fall to the site's own controllers when the plan before is replaced."""
        last = await asyncio.to_thread(lambda: self._service.newest(project_id, planned=True))
        if last is None or not last["sent"] or last["start_ms"] + last["steps"] * last["step_s"] * 1000 < self._now():
            return
        own = {int(d): float(c) for d, c in last["document"].get("own_c", {}).items()}
        start = self._now() // (STEP_S * 1000) * STEP_S * 1000
        tracks = [{"device_id": d, "point_id": point("room_temp_setpoint").id, "authority": int(Authority.PLAN), "value": [c, c], "holder": "release", "reason": "economic operation is off"} for d, c in own.items()]
        if not tracks:  # an empty document ends what the one before wished
            tracks = [{"device_id": t["device_id"], "point_id": t["point_id"], "authority": int(Authority.PLAN), "value": [None]} for t in last["document"]["tracks"][:1]]
        await self._sender.plan({"project_id": project_id, "plan_id": f"release-{start}", "start_ms": start, "step_s": STEP_S, "actor": "planner", "channel": "planner", "tracks": tracks})

    @staticmethod
    def _own(where: Site, known: _Known, values: Mapping[tuple[int, str], float], heard: Mapping[int, Mapping[str, Any]]) -> None:
        """What residents chose: what a thermostat shows while no plan holds it, never the plan's own wish read back."""
        for room in where.rooms:
            shown = values.get((room.device_id, "room_temp_setpoint"))
            if room.movable and shown is not None and room.device_id in heard and point("room_temp_setpoint").id not in heard[room.device_id].get("planned", ()):
                known.own[room.device_id] = shown

    async def _keeper(self, project_id: int, where: Site, setting: Setting) -> _Known:
        key = (hash(where), setting.version)
        known = self._known.get(project_id)
        last = await asyncio.to_thread(lambda: self._service.newest(project_id, planned=True)) if known is None else None
        if known is None or known.version != key:
            comfort = Comfort(setting.floor_c, setting.target_c, setting.down_k, setting.up_k)
            known = _Known(Planner(where, comfort), key, known.learnt if known is not None else from_register(where), known.learnt_ms if known is not None else 0,
                           known.weather if known is not None else None,
                           known.own if known is not None else {int(d): float(c) for d, c in ((last or {}).get("document") or {}).get("own_c", {}).items()})
            self._known[project_id] = known
        return known

    async def _failed(self, project_id: int, start: int, error: Exception, setting: Setting) -> dict[str, Any]:
        """Say it and keep it; a plan sent before goes on by itself on the box until its end, then the box's rules."""
        code = error.code if isinstance(error, KangError | OptimizerError) else type(error).__name__
        log.warning("project %d cannot be planned: %s", project_id, error)
        last = await asyncio.to_thread(lambda: self._service.newest(project_id, planned=True))
        alive = last is not None and last["sent"] and last["start_ms"] + last["steps"] * last["step_s"] * 1000 > self._now()
        outcome = "shifted" if alive and setting.mode == "act" else "failed"
        texts = {"zh": error.message("zh"), "en": error.message("en")} if isinstance(error, KangError) else {"zh": getattr(error, "zh", str(error))[:300], "en": getattr(error, "en", str(error))[:300]}
        plan_id = await asyncio.to_thread(lambda: self._service.keep(project_id=project_id, issued_ms=self._now(), start_ms=start, step_s=STEP_S, outcome=outcome, code=code,
                                                                    summary={**texts, "goes_on": last["id"] if alive and last is not None else None}, document={}))
        return {"outcome": outcome, "code": code, "id": plan_id, **texts}

    # -- looking ----------------------------------------------------------------------------------------------------

    async def _learn(self, project: ProjectInfo, where: Site, known: _Known, now: int) -> None:
        rooms = [r for r in where.rooms if r.sensor]
        if now - known.learnt_ms < LEARN_EVERY_MS:
            return
        begin, end = (now - HISTORY_DAYS * 86_400_000) // 3_600_000 * 3_600_000, now // 3_600_000 * 3_600_000
        hours = (end - begin) // 3_600_000
        temperature, area = point("room_temp").id, np.array([r.area_m2 or 1.0 for r in rooms])
        heat = (where.heat_meter, point("heat_power").id) if where.heat_meter else (where.grid_meter, point("active_power").id)
        asked = [*((r.device_id, temperature) for r in rooms[:190]), heat, (where.weather, point("outdoor_temp").id)]
        found = await self._historian.history(project.id, [a for a in asked if a[0]], begin, end, resolution_s=3600)
        columns = {(s.device_id, s.point_id): _hourly(s.at_ms, s.mean, begin, int(hours)) for s in found}
        nothing = np.full(int(hours), np.nan)
        seen = np.array([columns.get((r.device_id, temperature), nothing) for r in rooms[:190]])
        with np.errstate(invalid="ignore"):
            weights = np.where(np.isfinite(seen), area[:190, None], 0.0) if len(seen) else np.zeros((0, int(hours)))
            room = np.divide((np.nan_to_num(seen) * weights).sum(axis=0), weights.sum(axis=0), out=nothing.copy(), where=weights.sum(axis=0) > 0) if len(seen) else nothing
        outdoor = columns.get((where.weather, point("outdoor_temp").id), nothing)
        first = int(np.argmax(np.isfinite(room) & np.isfinite(outdoor))) if (np.isfinite(room) & np.isfinite(outdoor)).any() else int(hours)
        learnt = await asyncio.to_thread(learn, where, room[first:], columns.get(heat, nothing)[first:], outdoor[first:], np.zeros(int(hours) - first))
        known.learnt, known.learnt_ms = mass_now(learnt, room[-72:]), now

    async def _weather(self, project: ProjectInfo, where: Site, known: _Known, now: int) -> Forecast:
        """The provider's forecast; the last good one while it is young enough; then what the site's own sensor showed."""
        if self._provider is not None:
            try:
                known.weather = await self._provider.forecast(project.latitude, project.longitude, now)
            except WeatherError as error:
                log.warning("project %d: %s", project.id, error)
        if known.weather is not None and known.weather.age_h(now) <= STALE_H:
            return known.weather
        series = (where.weather, point("outdoor_temp").id) if where.weather else next(((p.device_id, point("outdoor_temp").id) for p in where.pumps), None)
        if series is None:
            raise NothingToPlanError(problem_zh="没有室外温度：站点无室外传感器，平台也未设置 weather_url", problem_en="no outdoor temperature: the site has no sensor and the platform no weather_url")
        (found,) = await self._historian.history(project.id, [series], now - 49 * 3_600_000, now, resolution_s=3600)
        return persistence(found.at_ms, found.mean, now)

    async def _moment(self, project: ProjectInfo, where: Site, setting: Setting, weather: Forecast, values: Mapping[tuple[int, str], float], start: int,
                      own: Mapping[int, float], held_h: Mapping[int, float]) -> Moment:
        outdoor, sun = weather.grid(start, HORIZON, STEP_S)
        if not TARIFFS:
            TARIFFS.update(published())
        tariff = TARIFFS[setting.tariff]
        month = dt.datetime.fromtimestamp(start / 1000, ZoneInfo(project.timezone))
        first = month.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        after = (first + dt.timedelta(days=32)).replace(day=1)
        demand = float(tariff.demand.yuan_kw) if tariff.demand is not None else 0.0
        peak = await self._peak(project.id, where, int(first.timestamp() * 1000), start) if demand else 0.0
        source_kw = sum(values.get((s.device_id, "active_power"), 0.0) for s in where.sources)
        draw = values.get((where.grid_meter, "active_power"), source_kw)
        base = np.full(HORIZON, max(0.0, draw - source_kw) if where.sources else 0.0)
        for s in where.sources:  # what is held goes on as it is until its hold ends
            base[:max(0, math.ceil(held_h.get(s.device_id, 0.0) * 3600 / STEP_S - 1e-9))] += values.get((s.device_id, "active_power"), 0.0)
        tank = where.tank
        layers = [v for k in range(tank.layers) if (v := values.get((tank.device_id, f"layer_temp_{k + 1}"))) is not None] if tank else []
        supply = values.get((tank.device_id, "leaving_temp_setpoint"), 45.0) if tank else 45.0
        return Moment(
            start, np.array([values.get((r.device_id, "room_temp"), math.nan) for r in where.rooms]), layers, supply, values.get((where.loop, "return_temp"), supply - 8.0),
            {s.device_id: (1.0 if values.get((s.device_id, "active_power"), 0.0) > 1.0 else -1.0) for s in where.sources}, outdoor, sun,
            price_array(tariff, start, HORIZON, STEP_S / 3600), base, demand, (after - month).total_seconds() / 3600, peak,
            setting.contract_kw if setting.contract_kw is not None else math.inf, own_c=[own.get(r.device_id, math.nan) for r in where.rooms],
            held_h={s.device_id: held_h[s.device_id] for s in where.sources if s.device_id in held_h})

    async def _peak(self, project_id: int, where: Site, begin: int, end: int) -> float:
        if not where.grid_meter or end - begin < 900_000:
            return 0.0
        (found,) = await self._historian.history(project_id, [(where.grid_meter, point("active_power").id)], begin, end, resolution_s=900, max_points=4000)
        return max((v for v in found.mean if math.isfinite(v)), default=0.0)


def _cold(plan: Plan) -> float:
    """How far a plan lets rooms fall below the floor owed to people, K."""
    return max((float(np.max(amount)) for name, amount in plan.slacks.items() if name.startswith("floor:") and len(amount)), default=0.0)


def _plain(planned: Planned, start_ms: int) -> Plain:
    if planned.community.limit_kw is None:
        return Plain(planned.community, planned.plan.grid_kw, start_ms)
    free = dataclasses.replace(planned.community, limit_kw=None)
    return Plain(free, Dispatcher(seconds=2.0).plan(free).grid_kw, start_ms)


def _agent(where: Site, devices: Sequence[DeviceInfo]) -> str:
    """The agent of the grid meter keeps the site's cap."""
    return next((d.agent_id for d in devices if d.id == where.grid_meter), "")


def _image(latest: Sequence[Latest], now: int) -> dict[tuple[int, str], float]:
    """Good and fresh values; set-points and temperatures of slow devices count half an hour."""
    return {(v.device_id, BY_ID[v.point_id].key): v.value for v in latest if v.point_id in BY_ID and math.isfinite(v.value) and v.quality in (0, 1, 5, 6) and now - v.at_ms < FRESH_MS}


def _hourly(at_ms: Sequence[int], values: Sequence[float], begin: int, hours: int) -> Array:
    out = np.full(hours, np.nan)
    for t, v in zip(at_ms, values, strict=True):
        k = (t - begin) // 3_600_000
        if 0 <= k < hours:
            out[k] = v
    return out


def _body(project_id: int, plan_id: str, start: int, planned: Planned) -> dict[str, Any]:
    return {"project_id": project_id, "plan_id": plan_id, "start_ms": start, "step_s": STEP_S, "actor": "planner", "channel": "planner",
            "tracks": [{"device_id": t.device_id, "point_id": t.point_id, "authority": int(Authority.PLAN), "value": list(t.value), "holder": plan_id, "reason": t.reason} for t in planned.tracks]}


def _document(planned: Planned, moment: Moment, weather: Forecast, now: int, learnt: Learnt) -> tuple[dict[str, Any], dict[str, Any]]:
    """(series, summary) as they are kept and shown: numbers rounded to what an instrument could tell."""
    plan, community = planned.plan, planned.community
    why = reasons(plan, community)
    document = {
        "grid_kw": _r(plan.grid_kw, 2), "sources_kw": {n: _r(v, 2) for n, v in plan.power_kw.items()}, "rooms_kw": {n: _r(v, 2) for n, v in plan.rooms_kw.items()},
        "store_kwh": {n: _r(v, 1) for n, v in plan.energy_kwh.items()}, "room_c": _r(plan.room_c.get("rooms", np.empty(0)), 2), "building_kw": _r(plan.building_kw.get("rooms", np.empty(0)), 2),
        "outdoor_c": _r(moment.outdoor_c, 2), "price": _r(moment.price, 5), "heat_price": _r(plan.heat_price, 5), "power_price": _r(plan.power_price, 5),
        "reasons": [[{"kind": r.kind, "zh": _named(r.zh, "zh"), "en": _named(r.en, "en"), "amount": round(r.amount, 3), "unit": r.unit} for r in step] for step in why],
        "tracks": [{"device_id": t.device_id, "point_id": t.point_id, "value": list(t.value)} for t in planned.tracks]}
    summary = {"cost": {k: round(v, 4) for k, v in plan.cost.items()}, "objective": round(plan.objective, 4), "gap": round(plan.gap, 6), "how": plan.how, "sol_status": plan.sol_status,
               "seconds": round(plan.seconds, 4), "weather": {"source": weather.source, "issued_ms": weather.issued_ms, "age_h": round(weather.age_h(now), 2)},
               "learnt": {"how": learnt.how, "days": round(learnt.days, 1), "rmse_k": None if math.isnan(learnt.rmse_k) else round(learnt.rmse_k, 3), "loss_kw_k": round(learnt.loss_kw_k, 4)},
               "warmer_1k_yuan": round(what_if(plan, community), 2), "peak_so_far_kw": round(moment.peak_so_far_kw, 1), "repaired": list(plan.repaired)}
    return document, summary


def _named(text: str, language: str) -> str:
    """What the planner's own parts are called by people."""
    return text.replace("“tank”", "蓄热").replace("“rooms”", "房间").replace("“heaters”", "房间电采暖") if language == "zh" else re.sub(r"\btank\b", "the store", text)


def _r(values: Any, digits: int) -> list[float]:
    return [round(float(v), digits) for v in np.atleast_1d(values)]

