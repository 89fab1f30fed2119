"""Priority under a flood: the high class's latency while 400 callers of the low class flood the real portal and historian.

Same run, same load: idle, flood with classes, flood without (everybody in one class: first come, first served).
Prints p50/p99, ratios, what the low class got. Must not know: how the gate decides.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.stack import Stack
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.interfaces.clients import ClientService
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.ledger import open_ledger
from cloud.portal.app import operation_table
from cloud.security import keys

FLOOD, SECONDS = 400, 10.0
SCOPE = ["devices.project.read", "monitoring.latest.read", "monitoring.history.read", "monitoring.alarms.read"]


def _at(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")


async def _high(client: httpx.AsyncClient, path: str, seconds: float) -> tuple[list[float], Counter[int]]:
    """One call after another, 20 a second at most."""
    took, statuses, until = list[float](), Counter[int](), time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.monotonic()
        statuses[(await client.get(path)).status_code] += 1
        took.append(time.monotonic() - started)
        await asyncio.sleep(max(0.0, 0.05 - took[-1]))
    return took, statuses


async def _one(url: str, token: str, path: str, stop: asyncio.Event, told: Counter[int], waits: list[float], standing: Callable[[], None]) -> None:
    """One caller: a bare HTTP/1.1 connection, so that the flood costs this machine as little as can be; asks again as soon as it was answered."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f"GET {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    first = True
    while not stop.is_set():
        started = time.monotonic()
        writer.write(request)
        if first:
            first = False
            standing()
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        await reader.readexactly(length)
        told[status] += 1
        waits.append(time.monotonic() - started)
        if status == 429:
            await asyncio.sleep(0.5)
    writer.close()


def flooder(url: str, token: str, path: str, seconds: float) -> None:
    """The flood as a process of its own: says when every caller stands in the queue, then what they got."""
    async def run() -> None:
        stop, told, waits, stood = asyncio.Event(), Counter[int](), list[float](), [0]

        def standing() -> None:
            stood[0] += 1
            if stood[0] == FLOOD:
                print("standing", flush=True)
                asyncio.get_running_loop().call_later(seconds, stop.set)

        await asyncio.gather(*(_one(url, token, path, stop, told, waits, standing) for _ in range(FLOOD)))
        print(json.dumps({"statuses": told, "p50": _at(waits, 0.5), "p99": _at(waits, 0.99)}), flush=True)

    asyncio.run(run())


async def _round(url: str, high: str, low: str, path: str, low_path: str) -> tuple[list[float], Counter[int], dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.priority", "--flood", url, low, low_path, str(SECONDS), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(1)
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {high}"}, timeout=120) as client:
        took, statuses = await _high(client, path, SECONDS - 4)
    out = await process.stdout.read()
    await process.wait()
    return took, statuses, json.loads(out)


async def measure(home: Path) -> dict[str, Any]:
    """The figures."""
    from tests.support import community

    with Stack(home, only=("ca", "nats", "store", "audit", "control", "portal")) as stack:
        settings = stack.settings
        store = ClickHouse(settings, threads=1)
        await store.wait()
        await store.run(lambda c: create(c.command))
        ledger = open_ledger(settings.effective_ledger_url)
        community.register(ledger)
        directory = LedgerDirectory(ledger)
        project = directory.projects()[0]
        device = directory.devices(project.id)[0]
        point = next(iter(device.points))
        now = int(time.time() * 1000)
        await store.command(f"INSERT INTO heat.raw (project_id, device_id, point_id, ts, value, quality, batch) SELECT {project.id}, {device.id}, {point}, "
                            f"toDateTime64({now / 1000:.0f} - number * 10, 3, 'UTC'), sin(number / 100), 0, 1 FROM numbers(200000)")
        service = ClientService(ledger, keys.signing_pem(settings.credentials / "api-token.ed25519"), operation_table)
        tokens = {}
        for name, priority in (("dispatch", 0), ("batch", 9), ("everybody", 2)):
            view, secret = service.register(name, SCOPE, rate=10_000, burst=100_000, priority=priority)
            tokens[name] = service.token(view["id"], secret)["access_token"]
        url = f"http://127.0.0.1:{settings.portal_port}/api/v1/"
        path = f"projects/{project.id}/history?series={device.id}:{point}&start_ms={now - 3_600_000}&end_ms={now}&resolution_s=0"
        low_path = f"projects/{project.id}/history?series={device.id}:{point}&start_ms={now - 2 * 86_400_000}&end_ms={now}&resolution_s=900"
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {tokens['dispatch']}"}, timeout=60) as client:
            for _ in range(50):  # the portal looks for new projects once a second
                if (await client.get(path)).status_code == 200:
                    break
                await asyncio.sleep(0.1)
            (await client.get(path)).raise_for_status()
            await _high(client, path, 2)
            idle, _ = await _high(client, path, 5)
        classes, high_statuses, low = await _round(url, tokens["dispatch"], tokens["batch"], path, low_path)
        fifo, fifo_statuses, everybody = await _round(url, tokens["everybody"], tokens["everybody"], path, low_path)
        ledger.close()
    result: dict[str, Any] = {"idle_p50_ms": _at(idle, 0.5), "idle_p99_ms": _at(idle, 0.99), "high_p50_ms": _at(classes, 0.5), "high_p99_ms": _at(classes, 0.99), "fifo_p50_ms": _at(fifo, 0.5),
              "fifo_p99_ms": _at(fifo, 0.99), "high_calls": len(classes), "fifo_calls": len(fifo), "high_statuses": dict(high_statuses), "fifo_statuses": dict(fifo_statuses), "low": low, "everybody": everybody}
    result["limit_ms"] = max(3 * result["idle_p99_ms"], 50.0)
    result["better_than_fifo"] = result["fifo_p99_ms"] / result["high_p99_ms"]
    return result


def main() -> None:
    """`python -m benchmarks.priority`; exit code 1 when the promise is not kept."""
    if sys.argv[1:2] == ["--flood"]:
        flooder(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
        return
    with tempfile.TemporaryDirectory(prefix="kang-priority-") as home:
        got = asyncio.run(measure(Path(home)))
    print(json.dumps(got, indent=1))
    kept = got["high_p99_ms"] <= got["limit_ms"] and got["better_than_fifo"] >= 20 and got["low"]["statuses"].get("200", 0) > 0
    print(f"high p99 {got['high_p99_ms']:.1f} ms (limit {got['limit_ms']:.1f}), {got['better_than_fifo']:.1f}x better than first come first served: {'kept' if kept else 'NOT KEPT'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
