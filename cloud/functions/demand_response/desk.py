"""The desk of demand response: every few seconds it moves events on, bids, allocates, follows minute by minute, allocates anew what a project does not deliver, settles.

Holds nothing that cannot be found again in the ledger and the historian. Must not know: NATS, Ray, FastAPI, how a project plans its cap.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from cloud.core.ports import Historian, ProjectDirectory
from cloud.functions.demand_response.allocation import Allocation, Offer, Segments, allocate, segments, series
from cloud.functions.demand_response.metering import DAY_MS, MINUTE_MS, REALTIME, just_before, meter_of, minutes
from cloud.functions.demand_response.orders import STEP_MS, Order, read
from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.service import ResponseService, times
from cloud.functions.demand_response.settling import settled
from cloud.functions.demand_response.states import Happening, Kind, State, due
from cloud.functions.demand_response.strategies import Strategy, rested
from cloud.functions.economic_operation.commitments import Commitment
from optimizers.errors import OptimizerError
from optimizers.specification import Array
from protos.arbitration import Authority
from protos.errors import KangError

log = logging.getLogger("kang.response")
#: Readings of a minute are all there so long after it.
LAG_MS: Final = 20_000
#: Heat before a market event begins at most so long before it: baselines close there.
PREHEAT_MS: Final = 2 * 3_600_000
#: A project that stays short of its promise by more than this share (and this many kW) for so many minutes is taken as it is.
SHORT_SHARE, SHORT_KW, SHORT_MINUTES = 0.1, 1.0, 3
#: Resources older than this are not bid with.
FRESH_MS: Final = 3_600_000
#: Set-points are followed at most so often.
SET_MS: Final = 8_000
TOGETHER: Final = 8
Happened = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class _Watch:
    """What is remembered of an event under way: minutes told, how long projects were short, what they are taken to deliver since."""

    told_ms: int = 0
    short: dict[int, int] = field(default_factory=dict)
    taken: dict[int, float] = field(default_factory=dict)
    set_ms: int = 0
    set_at: int = 0


class Desk:
    """One per installation, beside the planner."""

    def __init__(self, service: ResponseService, records: Records, directory: ProjectDirectory, historian: Historian, now: Callable[[], int], told: Happened) -> None:
        self._service, self._records, self._directory, self._historian, self._now, self._told = service, records, directory, historian, now, told
        self._watched: dict[int, _Watch] = {}

    async def tick(self) -> None:
        """Everything that is due now; what is wrong with one event keeps no other from going on."""
        for event in await asyncio.to_thread(self._service.open_events):
            try:
                await self._one(event)
            except (KangError, OptimizerError, ArithmeticError, ValueError, KeyError, IndexError) as error:
                log.warning("event %s of %s: %s: %s", event["event_id"], event["dispatcher"], type(error).__name__, error)

    async def commitments(self) -> dict[int, tuple[Commitment, ...]]:
        """What projects are held to now, for the planner."""
        out: dict[int, list[Commitment]] = {}
        now = self._now()
        for held in await asyncio.to_thread(self._service.commitments):
            if held["out"] or max(held["to_ms"], held["rebound_ms"]) <= now:
                continue
            pieces = [(int(a), int(b), float(cap)) for a, b, cap, _ in held["segments"]]
            if held["rebound_kw"] is not None and held["rebound_ms"] > held["to_ms"]:
                pieces.append((held["to_ms"], held["rebound_ms"], float(held["rebound_kw"])))
            out.setdefault(held["project_id"], []).append(Commitment(str(held["event_id"]), Authority(held["authority"]), tuple(pieces)))
        return {project: tuple(found) for project, found in out.items()}

    # -- one event --------------------------------------------------------------------------------------------------------

    async def _one(self, event: dict[str, Any]) -> None:
        kind = Kind(event["kind"])
        while (found := due(kind, State(event["state"]), times(event), self._now())) is not None:
            event = await self._happen(event, found[0], why=found[1])
        state = State(event["state"])
        if state is State.INVITED:
            await self._bid(event)
        elif (state is State.PUBLISHED and kind is Kind.ORDER) or state is State.CLEARED:
            await self._allocate(event)
        elif state in (State.ACTIVE, State.RECOVERED):
            await self._follow(event)
            await self._set(event)
            if state is State.RECOVERED and self._now() >= event["recovered_ms"] + LAG_MS:
                await self._evaluate(event)
        elif state is State.EVALUATED:
            await self._happen(event, Happening.SETTLE)
            self._watched.pop(event["id"], None)

    async def _happen(self, event: Mapping[str, Any], happening: Happening, **values: Any) -> dict[str, Any]:
        moved = await asyncio.to_thread(lambda: self._service.happen(event["id"], happening, **values))
        log.info("event %s: %s", moved["event_id"], moved["state"])
        await self._told(moved)
        return moved

    # -- offers, bids, allocation -------------------------------------------------------------------------------------------

    async def offers(self, event: Mapping[str, Any], order: Order, pieces: Segments) -> list[Offer]:
        """What each project asked can give in this event now, after what stronger events took."""
        codes = set(order.resources)
        projects = [p for p in self._directory.projects() if p.code in codes]
        resources, strategies, choices, all_held = await asyncio.gather(
            asyncio.to_thread(self._service.resources, projects), asyncio.to_thread(self._service.strategies), asyncio.to_thread(self._service.choices, event["id"]), asyncio.to_thread(self._service.commitments))
        rank = {e["id"]: n for n, e in enumerate(await asyncio.to_thread(self._service.open_events))}
        mine = rank.get(event["id"], len(rank))
        taken = await asyncio.to_thread(self._service.taken, event["id"])
        before: dict[int, list[dict[str, Any]]] = {}
        for held in all_held:
            if held["event"] != event["id"] and not held["out"] and rank.get(held["event"], mine) < mine:
                before.setdefault(held["project_id"], []).append(held)
        named = {p.id: p for p in projects}
        gate = asyncio.Semaphore(TOGETHER)

        async def one(resource: Mapping[str, Any]) -> Offer | None:
            project = named[resource["project_id"]]
            strategy = strategies.get(project.id) or Strategy(project.id)
            if order.kind is Kind.MARKET and self._stays_out(event, strategy, choices.get(project.id), resource, project.timezone, taken.get(project.id, [])):
                return None
            async with gate:
                base = await self._base(resource, order, pieces)
            lent = choices.get(project.id, ("", 1.0))[1]
            kw = next((r["down_kw"] for r in resource["rows"] if r["duration_s"] >= order.seconds - 1), 0.0) * lent
            yuan = next((r["down_micro"] / 1e6 / max(1e-6, r["down_kw"] * r["duration_s"] / 3600) for r in resource["rows"] if r["down_kw"] > 0 and r["duration_s"] >= order.seconds - 1), 0.0)
            for held in before.get(project.id, ()):
                base = np.minimum(base, _caps(held, pieces))
            room = max(0.0, float(base.max(initial=0.0)) - strategy.least_kw)
            return Offer(project.id, base, min(kw, room), room if order.kind is Kind.ORDER else 0.0, min(yuan, 5.0), float(resource["base"].get("step_kw", 0.0)), float(resource["base"].get("other_kw", 0.0)))

        return [o for o in await asyncio.gather(*(one(r) for r in resources)) if o is not None]

    def _stays_out(self, event: Mapping[str, Any], strategy: Strategy, choice: tuple[str, float] | None, resource: Mapping[str, Any], timezone: str, taken: list[tuple[int, int]]) -> bool:
        if not strategy.participates or (choice is None and not strategy.joins) or (choice is not None and choice[0] == "decline") or self._now() - resource["at_ms"] > FRESH_MS:
            return True
        if event["start_ms"] - event["created_ms"] < strategy.notice_s * 1000 or (event["document"]["micro_kwh"] < strategy.price_micro_kwh and event["document"]["micro_kwh"] > 0):
            return True
        day = dt.datetime.fromtimestamp(event["start_ms"] / 1000, ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
        return bool(rested(strategy, taken, event["start_ms"], event["end_ms"], int(day.timestamp() * 1000)))

    async def _base(self, resource: Mapping[str, Any], order: Order, pieces: Segments) -> Array:
        """Draw without the event: what the meter shows when the event is at hand and settled by that, the plan's otherwise."""
        now = self._now()
        project = self._directory.project(resource["project_id"])
        if project is not None and (order.baseline == REALTIME or not resource["base"].get("kw")) and order.start_ms - now < 3_600_000:
            seen = await just_before(self._historian, meter_of(project, self._directory.devices(project.id)), min(now, order.start_ms), most=order.target == "limit")
            if seen is not None:
                return np.full(len(pieces.starts), seen)
        return series(pieces.starts, resource["base"], float(resource["base_kw"]))

    async def _bid(self, event: dict[str, Any]) -> None:
        """Bid once everybody has answered, or when two thirds of the time to do so are over."""
        order = read(event["document"])
        open_until = event["changed_ms"] + (event["bid_until_ms"] - event["changed_ms"]) * 2 // 3
        projects = [p for p in self._directory.projects() if p.code in set(order.resources)]
        strategies, choices = await asyncio.gather(asyncio.to_thread(self._service.strategies), asyncio.to_thread(self._service.choices, event["id"]))
        waiting = [p for p in projects if (s := strategies.get(p.id)) is not None and s.participates and not s.joins and p.id not in choices]
        if waiting and self._now() < open_until:
            return
        pieces = segments(order.start_ms, order.end_ms, STEP_MS)
        able = sum(o.whole_kw for o in await self.offers(event, order, pieces))
        kw = round(min(able, max(order.kw)), 1)
        if kw <= 0:
            await self._happen(event, Happening.CANCEL, why="no-offer")
            return
        price = max((strategies[p.id].price_micro_kwh for p in projects if p.id in strategies and strategies[p.id].participates), default=0)
        moved = await asyncio.to_thread(lambda: self._service.bid(event["id"], kw, max(price, order.micro_kwh), "platform"))
        await self._told(moved)

    async def _allocate(self, event: dict[str, Any], watch: _Watch | None = None) -> None:
        """Split what is asked over the projects; `watch`: anew, from what projects really deliver."""
        order, now = read(event["document"]), self._now()
        pieces = segments(order.start_ms, order.end_ms, STEP_MS)
        offers = await self.offers(event, order, pieces)
        held = {c["project_id"]: c for c in await asyncio.to_thread(self._service.commitments, event["id"])}
        if watch is not None:
            offers = [_again(o, held.get(o.project_id), watch.taken.get(o.project_id), pieces) for o in offers]
        base = np.sum([o.base_kw for o in offers], axis=0) if offers else np.zeros(len(pieces.starts))
        point = event["outcome"].get("setpoint")
        wanted = asked = np.array([point["kw"] if point and end > now else order.wanted_kw(t) for t, end in zip(pieces.starts, pieces.edges_ms[1:], strict=True)])
        if order.target == "limit":
            wanted = np.maximum(0.0, base - wanted)
        if order.kind is Kind.MARKET:
            wanted = np.minimum(wanted, float(event["outcome"].get("cleared", {}).get("kw", 0.0)))
        began = asyncio.get_running_loop().time()
        found = await asyncio.to_thread(lambda: allocate(offers, wanted, pieces.hours, close=order.target == "reduction"))
        if order.target == "limit":
            found = _within(found, offers, asked)
        detail = {"projects": len(found.cap_kw), "asked_kw": round(float(wanted.max(initial=0.0)), 1), "kw": round(float(found.total_kw.mean()), 1), "short_kw": round(float(found.short_kw.max(initial=0.0)), 1),
                  "seconds": round(asyncio.get_running_loop().time() - began, 3), **({"taken": {str(k): round(v, 1) for k, v in watch.taken.items()}} if watch else {})}
        rows = await asyncio.to_thread(self._rows, order, found, offers, pieces, {k: held[k] for k in watch.taken if k in held} if watch else {}, watch.taken if watch else {})
        preheat = max(now, order.start_ms - PREHEAT_MS) if order.kind is Kind.MARKET and order.start_ms - now > STEP_MS else 0
        recovered = max((r["rebound_ms"] for r in rows), default=order.end_ms)
        confirm = watch is None
        moved = await asyncio.to_thread(lambda: self._service.commit(event["id"], rows, confirm=confirm, detail=detail, preheat_ms=preheat, recovered_ms=recovered))
        log.info("event %s: %s %d projects to %.0f kW less, %.0f short", moved["event_id"], "held" if confirm else "held anew", len(rows), detail["kw"], detail["short_kw"])
        await self._told(moved)

    def _rows(self, order: Order, found: Allocation, offers: Sequence[Offer], pieces: Segments, kept: Mapping[int, Mapping[str, Any]], taken: Mapping[int, float]) -> list[dict[str, Any]]:
        """Fields of commitments; who is short (`kept`) stays held to what it promised and is counted for what it does (`taken`)."""
        strategies, by = self._service.strategies(), Authority.GRID_ORDER if order.kind is Kind.ORDER else Authority.DEMAND_RESPONSE
        resources = {r["project_id"]: r for r in self._service.resources([p for p in self._directory.projects() if p.code in set(order.resources)])}
        out: list[dict[str, Any]] = []
        edges = pieces.edges_ms
        for offer in offers:
            if offer.project_id in kept:
                old = kept[offer.project_id]
                out.append({**{k: old[k] for k in ("project_id", "from_ms", "to_ms", "authority", "rebound_ms", "rebound_kw", "segments")}, "kw": round(max(0.0, taken[offer.project_id]), 2)})
                continue
            if offer.project_id not in found.cap_kw:
                continue
            strategy = strategies.get(offer.project_id) or Strategy(offer.project_id)
            cap = np.maximum(found.cap_kw[offer.project_id], np.minimum(offer.base_kw, strategy.least_kw))
            rebound_ms = order.end_ms + strategy.rebound_s * 1000
            most = float(offer.base_kw.max(initial=0.0))
            after = segments(order.start_ms, max(rebound_ms, order.end_ms), STEP_MS)
            peak = max(most, float(series(after.starts, resources[offer.project_id]["base"], most).max(initial=0.0)))
            out.append({"project_id": offer.project_id, "from_ms": order.start_ms, "to_ms": order.end_ms, "kw": round(found.kw[offer.project_id], 2), "authority": int(by), "rebound_ms": rebound_ms,
                        "rebound_kw": round(max(strategy.least_kw, (order.rebound_share or strategy.rebound_share) * peak), 2) if strategy.rebound_s and peak > 1.0 else None,
                        "segments": [[edges[k], edges[k + 1], round(float(cap[k]), 2), round(float(offer.base_kw[k]), 2)] for k in range(len(pieces.starts))]})
        return out

    # -- following ------------------------------------------------------------------------------------------------------------

    async def _follow(self, event: dict[str, Any]) -> None:
        """Each minute that is complete: metered, baseline, target of all; who stays short is allocated anew."""
        watch = self._watched.get(event["id"])
        if watch is None:
            last = await asyncio.to_thread(self._records.last_minute, event["id"])
            watch = self._watched[event["id"]] = _Watch(last if last is not None else event["start_ms"] // MINUTE_MS * MINUTE_MS - MINUTE_MS)
        order = read(event["document"])
        end = min(self._now() - LAG_MS, event["recovered_ms"]) // MINUTE_MS * MINUTE_MS
        begin = watch.told_ms + MINUTE_MS
        if begin >= end:
            return
        held = [c for c in await asyncio.to_thread(self._service.commitments, event["id"]) if not c["out"]]
        gate = asyncio.Semaphore(TOGETHER)

        async def drawn(commitment: Mapping[str, Any]) -> Array:
            project = self._directory.project(commitment["project_id"])
            if project is None:
                return np.full((end - begin) // MINUTE_MS, np.nan)
            async with gate:
                return await minutes(self._historian, meter_of(project, self._directory.devices(project.id)), begin, end)

        draws = await asyncio.gather(*(drawn(c) for c in held))
        rows = [_minute(event["id"], at, k, held, draws, limited=order.target == "limit") for k, at in enumerate(range(begin, end, MINUTE_MS))]
        await asyncio.to_thread(self._records.keep_minutes, rows)
        watch.told_ms = end - MINUTE_MS
        for k, at in enumerate(range(begin, end, MINUTE_MS)):
            if order.start_ms + order.ramp_s * 1000 <= at < order.end_ms - SHORT_MINUTES * MINUTE_MS:
                for c, d in zip(held, draws, strict=True):
                    cap, base = _at(c, at)
                    short = (d[k] if np.isfinite(d[k]) else base) - cap
                    late = short > max(SHORT_KW, SHORT_SHARE * max(0.0, base - cap)) and c["project_id"] not in watch.taken
                    watch.short[c["project_id"]] = watch.short.get(c["project_id"], 0) + 1 if late else 0
        late_now = {c["project_id"]: float(_at(c, end - MINUTE_MS)[1] - (np.nanmean(d[-SHORT_MINUTES:]) if np.isfinite(d[-SHORT_MINUTES:]).any() else _at(c, end - MINUTE_MS)[1]))
                    for c, d in zip(held, draws, strict=True) if watch.short.get(c["project_id"], 0) >= SHORT_MINUTES}
        if late_now and end < order.end_ms - SHORT_MINUTES * MINUTE_MS:
            watch.taken |= late_now
            await self._allocate(event, watch)
        await self._told({**event, "minute": rows[-1]})

    async def _set(self, event: dict[str, Any]) -> None:
        """A newer set-point is allocated, at most every few seconds: plans travel whole."""
        watch, point = self._watched[event["id"]], event["outcome"].get("setpoint")
        if point and event["state"] == State.ACTIVE and point["at_ms"] > watch.set_ms and self._now() - watch.set_at >= SET_MS and self._now() < event["end_ms"]:
            watch.set_ms, watch.set_at = point["at_ms"], self._now()
            await self._allocate(event, watch)

    # -- after --------------------------------------------------------------------------------------------------------------------

    async def _evaluate(self, event: dict[str, Any]) -> None:
        """Evaluate every project, keep what it gets, and say what the event came to."""
        statements = [await self.statement(event, held) for held in await asyncio.to_thread(self._service.commitments, event["id"]) if held["out"] != "opted-out"]
        await asyncio.to_thread(self._records.keep_statements, event["id"], [s for s in statements if s is not None], self._now())
        made = [s["basis"] for s in statements if s is not None]
        delivered, asked = sum(s["delivered_kwh"] for s in made), sum(s["committed_kwh"] for s in made)
        outcome = {"evaluation": {"delivered_kwh": round(delivered, 3), "committed_kwh": round(asked, 3), "ratio": round(delivered / asked, 4) if asked > 0 else None, "projects": len(made),
                                  "kept": sum(1 for s in made if s["ratio"] >= 0.8), "on_time": round(sum(s["on_time"] for s in made) / len(made), 4) if made else None, "gaps": sum(s["gaps"] for s in made),
                                  "total_micro": sum(s["total_micro"] for s in made)}}
        await self._happen(event, Happening.EVALUATE, outcome=outcome)

    async def statement(self, event: Mapping[str, Any], held: Mapping[str, Any], owner_share: float | None = None) -> dict[str, Any] | None:
        """One project's settlement, from stored data alone: made and verified by the same road. None = the project is gone."""
        return await recomputed(self._service, self._directory, self._historian, event, held, owner_share)


async def recomputed(service: ResponseService, directory: ProjectDirectory, historian: Historian, event: Mapping[str, Any], held: Mapping[str, Any], owner_share: float | None = None) -> dict[str, Any] | None:
    """See `Desk.statement`; for whoever verifies without a desk."""
    project = directory.project(held["project_id"])
    if project is None:
        return None
    order = read(event["document"])
    share = (await asyncio.to_thread(service.strategy, project.id)).owner_share if owner_share is None else owner_share
    stronger = [c for c in await asyncio.to_thread(service.stronger, event["id"], project.id) if c["to_ms"] > order.start_ms and c["from_ms"] < order.end_ms]
    others = [(a, b) for a, b in await asyncio.to_thread(service.spans, project.id, event["id"]) if b > order.start_ms - 60 * DAY_MS]
    price = int(event["outcome"].get("cleared", {}).get("micro_kwh", order.micro_kwh))
    made = await settled(historian, meter_of(project, directory.devices(project.id)), order, held, stronger, closed_ms=event["preheat_ms"] or order.start_ms, micro_kwh=price, owner_share=share, others=others)
    return {"project_id": project.id, "lines": made["lines"], "basis": {**{k: v for k, v in made.items() if k != "lines"}, "micro_kwh": price, "owner_share": share}}


def _again(offer: Offer, held: Mapping[str, Any] | None, taken: float | None, pieces: Segments) -> Offer:
    """An offer in the middle of an event: its base is the one it was held against, and who does not deliver is counted for what it does."""
    base = offer.base_kw if held is None else np.array([_at(held, t)[1] for t in pieces.starts])
    if taken is None:
        return dataclasses.replace(offer, base_kw=base)
    kw = max(0.0, taken)
    return Offer(offer.project_id, np.maximum(0.0, base - kw), 0.0, 0.0, 0.0)


def _within(found: Allocation, offers: Sequence[Offer], limit_kw: Array) -> Allocation:
    """A limit binds whatever is drawn now: what is left of it is shared by what each draws, so that the caps add up to it."""
    caps = [np.asarray(found.cap_kw.get(o.project_id, o.base_kw), np.float64) for o in offers]
    if not caps:
        return found
    left = np.maximum(0.0, limit_kw - np.sum(caps, axis=0))
    base = np.array([o.base_kw for o in offers])
    whole = base.sum(axis=0)
    share = np.divide(base, whole, out=np.full_like(base, 1 / len(offers)), where=whole > 0)
    return dataclasses.replace(found, cap_kw={o.project_id: cap + left * part for o, cap, part in zip(offers, caps, share, strict=True)}, kw={o.project_id: found.kw.get(o.project_id, 0.0) for o in offers})


def _caps(held: Mapping[str, Any], pieces: Segments) -> Array:
    return np.array([min((cap for a, b, cap, _ in held["segments"] if a < end and b > begin), default=np.inf) for begin, end in zip(pieces.edges_ms, pieces.edges_ms[1:], strict=False)])


def _at(held: Mapping[str, Any], at_ms: int) -> tuple[float, float]:
    """(cap, base) at a moment; after the event the rebound limit and the base it is counted from."""
    for begin, end, cap, base in held["segments"]:
        if begin < at_ms + MINUTE_MS and at_ms < end:
            return float(cap), float(base)
    last = float(held["segments"][-1][3]) if held["segments"] else 0.0
    return (float(held["rebound_kw"]) if held["rebound_kw"] is not None else float("inf")), last


def _minute(event: int, at_ms: int, k: int, held: Sequence[Mapping[str, Any]], draws: Sequence[Array], *, limited: bool) -> dict[str, Any]:
    metered = baseline = target = 0.0
    seen, short = 0, []
    for commitment, draw in zip(held, draws, strict=True):
        cap, base = _at(commitment, at_ms)
        told = bool(np.isfinite(draw[k]))
        kw = float(draw[k]) if told else base
        during = not limited and at_ms < commitment["to_ms"]
        seen, metered, baseline, target = seen + told, metered + kw, baseline + base, target + (base - float(commitment["kw"]) if during else min(cap, 1e9))
        if kw > cap + SHORT_KW:
            short.append([commitment["project_id"], round(kw - cap, 1)])
    return {"event": event, "at_ms": at_ms, "metered_kw": round(metered, 2), "baseline_kw": round(baseline, 2), "target_kw": round(target, 2), "measured": seen, "projects": len(held), "short": sorted(short, key=lambda s: -s[1])[:20]}
