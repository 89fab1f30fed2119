"""The plant's own control socket: HTTP/1.1 on loopback with JSON, for fault injection, truth and history read-back.

GET /health, /devices, /values, /truth, /history?start=MS&end=MS&limit=N; POST /fault {kind, target, on, point}, POST /save.
Must not know: field protocols.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.plants.community import FAULTS
from benchmarks.plants.device import PlantError
from benchmarks.plants.plant import Plant
from benchmarks.plants.servers.listener import Listener

MAX_BODY = 64 * 1024
MAX_ROWS = 200_000


class Control:
    """Requests against one plant."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.refused = 0

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request."""
        url = urlsplit(target)
        query = {k: v[-1] for k, v in parse_qs(url.query).items()}
        try:
            if method == "POST":
                return 200, self._post(url.path, body)
            return 200, self._get(url.path, query)
        except PlantError as error:
            self.refused += 1
            return 400, {"code": error.code, "zh": error.message("zh"), "en": error.message("en")}

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        community = self.plant.community
        image = community.image
        if path == "/health":
            return {"community": community.key, "now_ms": round(community.now_s * 1000), "speed": self.plant.speed, "devices": len(image.devices),
                    "points": len(image.index), "writes": community.writes, "faults": {k: sorted(v) for k, v in community.faults.items() if v}}
        if path == "/devices":
            return {"devices": [{"code": d.code, "template": d.template, "channel": d.channel, "address": d.address} for d in image.devices]}
        if path == "/values":
            values: dict[str, dict[str, float | None]] = {d.code: {} for d in image.devices}
            for (k, point), at in image.index.items():
                value = float(image.values[at])
                values[image.devices[k].code][point] = value if math.isfinite(value) else None
            return {"at_ms": round(community.now_s * 1000), "values": values}
        if path == "/truth":
            return community.truth()
        if path == "/history":
            return self.plant.history_ring.page(_number(query, "start", 0), _number(query, "end", 1 << 52), min(MAX_ROWS, _number(query, "limit", 20_000)))
        raise PlantError(reason=f"no page {path!r}")

    def _post(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/save":
            self.plant.save()
            return {"saved": True}
        if path != "/fault":
            raise PlantError(reason=f"no page {path!r}")
        try:
            wish = json.loads(body)
            kind, target, point, on = str(wish["kind"]), str(wish.get("target", "*")), str(wish.get("point", "")), bool(wish.get("on", True))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PlantError(reason=f"the body must be JSON {{kind, target, on, point}}; kinds: {', '.join(FAULTS)}") from None
        self.plant.community.inject(kind, target, on=on, point=point)
        self.plant.community.publish()
        return {"faults": {k: sorted(v) for k, v in self.plant.community.faults.items() if v}}


def _number(query: dict[str, str], key: str, default: int) -> int:
    try:
        return int(query.get(key, default))
    except ValueError:
        raise PlantError(reason=f"{key} must be a whole number") from None


async def serve(control: Control, port: int) -> Listener:
    """Listen on 127.0.0.1 only; one request per connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ", 2)
            lengths = [line.split(":", 1)[1] for line in head if line.lower().startswith("content-length:")]
            size = int(lengths[0]) if lengths else 0
            body = await asyncio.wait_for(reader.readexactly(size), 10) if 0 < size <= MAX_BODY else b""
            status, answer = control.answer(method, target, body) if size <= MAX_BODY else (413, {"code": "E-PLANT", "en": "Body too large", "zh": "请求过大"})
            data = json.dumps(answer, ensure_ascii=False).encode()
            writer.write(f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\nContent-Type: application/json; charset=utf-8\r\n"
                         f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
            await writer.drain()
        except (ValueError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            control.refused += 1

    return await Listener(talk).start("127.0.0.1", port)
