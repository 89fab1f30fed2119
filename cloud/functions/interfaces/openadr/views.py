"""Our programs, events, reports and resources as OpenADR 3.1 objects.

Pure. Must not know: ledgers, HTTP. The private object `kang` of an event and payload types KANG_* say what the standard has no words for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cloud.functions.interfaces.openadr.tables import OpenAdrEvent, OpenAdrProgram, OpenAdrReport
from cloud.functions.interfaces.openadr.times import stamp

VEN: Final = "kang"
ALL: Final = "AGGREGATED_REPORT"
MINUTE_MS: Final = 60_000
#: Events longer than this are reported by the quarter of an hour, others by the minute.
LONG_MS: Final = 4 * 3_600_000
_FROM: Final = "report-"


def metadata(kind: str, number: str, created_ms: int, changed_ms: int) -> dict[str, Any]:
    """What every object carries."""
    return {"id": number, "createdDateTime": stamp(created_ms), "modificationDateTime": stamp(changed_ms), "objectType": kind}


def program(row: OpenAdrProgram) -> dict[str, Any]:
    """A program as its client wrote it."""
    return {**row.document, **metadata("PROGRAM", row.id, row.created_ms, row.changed_ms)}


def event(row: OpenAdrEvent, desk: Mapping[str, Any]) -> dict[str, Any]:
    """An event as its client wrote it, with what became of it.

    Args:
        row: as kept.
        desk: as demand response tells it.
    """
    outcome = desk["outcome"]
    kang = {"version": desk["version"], "kind": desk["kind"], "state": desk["state"], "why": desk["why"], "changedDateTime": stamp(desk["changed_ms"]), "asked_kw": desk["asked_kw"], "committed_kw": desk["committed_kw"],
            "start": stamp(desk["start_ms"]), "end": stamp(desk["end_ms"]), **{k: outcome[k] for k in ("bid", "cleared") if k in outcome}}
    return {**row.document, **metadata("EVENT", row.id, row.created_ms, row.changed_ms), "kang": kang}


def ven(at_ms: int, client: str) -> dict[str, Any]:
    """The platform itself, the one VEN behind which all resources stand."""
    return {**metadata("VEN", VEN, at_ms, at_ms), "clientID": client, "venName": VEN, "targets": None, "attributes": [{"type": "DESCRIPTION", "values": ["Kang 炕: electric heating, DL/T 2690.7-2023"]}]}


def resource(r: Mapping[str, Any], client: str) -> dict[str, Any]:
    """What a project can do now: kW less (more) by seconds it can be held, as points."""
    def rows(name: str) -> list[dict[str, float]]:
        return [{"x": float(row["duration_s"]), "y": float(row[name])} for row in r["rows"]]

    values: dict[str, list[Any]] = {"DESCRIPTION": [(r["name_en"] or r["name_zh"] or r["id"])[:128]], "KANG_BASE_KW": [r["base_kw"]], "KANG_LEAST_KW": [r["least_kw"]], "KANG_ORDER_KW": [r["forced_kw"]], "KANG_DOWN_KW": rows("down_kw"),
                                    "KANG_UP_KW": rows("up_kw"), "KANG_RAMP_S": [r["ramp_s"]], "KANG_NOTICE_S": [r["notice_s"]], "KANG_MARKET": [r["participates"]], "KANG_HOW": [r["how"]]}
    return {**metadata("RESOURCE", r["id"], r["at_ms"], r["at_ms"]), "clientID": client, "resourceName": r["id"], "venID": VEN, "targets": [r["id"]],
            "attributes": [{"type": name, "values": held} for name, held in values.items()]}


def report_id(event_id: str) -> str:
    """Number of an event's report."""
    return _FROM + event_id


def event_of(report: str) -> str:
    """The event a report's number names, "" of none."""
    return report.removeprefix(_FROM) if report.startswith(_FROM) else ""


def report(desk: Mapping[str, Any], minutes: Sequence[Mapping[str, Any]], statements: Iterable[Mapping[str, Any]], codes: Mapping[int, str]) -> dict[str, Any]:
    """What was metered in an event, all its resources together, and once it is settled what each delivered.

    Args:
        desk: the event as demand response tells it.
        minutes: of `Records.minutes`.
        statements: of `Records.statements`; those of one project tell the same delivery.
        codes: of projects by id.
    """
    step = MINUTE_MS if desk["end_ms"] - desk["start_ms"] <= LONG_MS else 15 * MINUTE_MS
    changed = max([desk["changed_ms"], *(m["at_ms"] + MINUTE_MS for m in minutes)])
    whole = {"resourceName": ALL, "intervalPeriod": {"start": stamp(minutes[0]["at_ms"] // step * step if minutes else desk["start_ms"]), "duration": f"PT{step // 1000}S"}, "intervals": _intervals(minutes, step)}
    each = {codes.get(s["project_id"], ""): s["basis"] for s in statements}
    length = {"start": stamp(desk["start_ms"]), "duration": f"PT{(desk['end_ms'] - desk['start_ms']) // 1000}S"}
    parts = [{"resourceName": code, "intervalPeriod": length, "intervals": [{"id": 0, "payloads": [
        {"type": "DELTA_USAGE", "values": [-float(b["delivered_kwh"])]}, {"type": "DATA_QUALITY", "values": ["OK" if not b["gaps"] else "ESTIMATED"]}, {"type": "KANG_COMMITTED_KWH", "values": [float(b["committed_kwh"])]},
        {"type": "KANG_BASELINE_METHOD", "values": [str(b["baseline"])]}]}]} for code, b in sorted(each.items()) if code]
    described = [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "readingType": reading, "units": unit} for kind, reading, unit in (
        ("DEMAND", "MEAN", "KW"), ("BASELINE", "MEAN", "KW"), ("KANG_TARGET", "MEAN", "KW"), ("DELTA_USAGE", "SUMMED", "KWH"), ("KANG_COMMITTED_KWH", "SUMMED", "KWH"))]
    return {**metadata("REPORT", report_id(desk["event_id"]), desk["start_ms"], changed), "clientID": VEN, "eventID": desk["event_id"], "clientName": VEN, "reportName": desk["state"], "payloadDescriptors": described,
            "resources": [whole, *parts]}


def handed_in(row: OpenAdrReport) -> dict[str, Any]:
    """A report as it was handed in."""
    return {**row.document, **metadata("REPORT", row.id, row.created_ms, row.changed_ms), "clientID": row.owner}


def _intervals(minutes: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
    """Means over steps; a step nobody metered says so and has no demand."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for m in minutes:
        groups.setdefault(m["at_ms"] // step * step, []).append(m)
    out: list[dict[str, Any]] = []
    for at, rows in groups.items():
        seen = sum(m["measured"] for m in rows)
        quality = "MISSING" if not seen else "OK" if all(m["measured"] == m["projects"] for m in rows) else "ESTIMATED"
        payloads: list[dict[str, Any]] = [{"type": "DEMAND", "values": [_mean(rows, "metered_kw")]}] if seen else []
        target = _mean(rows, "target_kw")
        payloads += [{"type": "BASELINE", "values": [_mean(rows, "baseline_kw")]}, *([{"type": "KANG_TARGET", "values": [target]}] if target < 1e9 else []), {"type": "DATA_QUALITY", "values": [quality]}]
        out.append({"id": len(out), "intervalPeriod": {"start": stamp(at), "duration": f"PT{step // 1000}S"}, "payloads": payloads})
    return out


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return round(math.fsum(m[name] for m in rows) / len(rows), 3)
