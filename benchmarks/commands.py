"""Command round trips: click on the page (REST) to verified by read-back, with twenty agents connected, against bare NATS and bare gRPC.

`python -m benchmarks.commands`; QUICK=1 sends 100 commands instead of 1,000. The devices answer without delay; polling the state costs up to 5 ms.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
import httpx
import nats

from benchmarks.report import QUICK, Report, quantile
from benchmarks.rig.build import RigAgent, rig
from benchmarks.stack import Stack, wait_until
from cloud.bus.connection import connect
from cloud.core.supervision import Child
from cloud.functions.system.sessions import SessionService
from cloud.installation import prepare
from cloud.ledger import open_ledger
from cloud.security.operations import Role
from protos.points import point

AGENTS, DEVICES = 20, 5
COMMANDS = 100 if QUICK else 1000
SETPOINT = point("leaving_temp_setpoint").id


def sign_in(stack: Stack) -> httpx.AsyncClient:
    """A signed-in operator."""
    ledger = open_ledger(stack.settings.effective_ledger_url)
    sessions = SessionService(ledger)
    sessions.register_user("bench", "Bench", [Role.OPERATOR])
    code = sessions.issue_code("bench")
    ledger.close()
    base = f"http://127.0.0.1:{stack.settings.portal_port}/api/v1"
    with httpx.Client(base_url=base) as first:
        answer = first.post("/session", json={"code": code})
        answer.raise_for_status()
        return httpx.AsyncClient(base_url=base, cookies=dict(first.cookies), headers={"x-kang-csrf": answer.json()["csrf"]}, timeout=20)


async def prove_again(stack: Stack, client: httpx.AsyncClient) -> None:
    """A fresh proof of identity: control asks for one of the last five minutes, and a long run is longer."""
    ledger = open_ledger(stack.settings.effective_ledger_url)
    code = SessionService(ledger).issue_code("bench")
    ledger.close()
    (await client.post("/session/reauthenticate", json={"one_time": code})).raise_for_status()


async def one(client: httpx.AsyncClient, device_id: int, value: float) -> tuple[float, dict[str, float], str]:
    """(seconds from click to a final state, seconds to each state by the journal, final state)."""
    started = time.perf_counter()
    answer = await client.post("/commands", json={"device_id": device_id, "kind": "hold", "point_id": SETPOINT, "value": value, "hold_s": 600, "reason": "benchmark"},
                               headers={"Idempotency-Key": uuid.uuid4().hex})
    answer.raise_for_status()
    command_id = answer.json()["id"]
    while True:
        view = (await client.get(f"/commands/{command_id}")).json()
        if view["state"] in ("verified", "failed", "refused", "expired", "unknown", "superseded"):
            steps = view["steps"]
            return time.perf_counter() - started, {s["state"]: (s["at_ms"] - steps[0]["at_ms"]) / 1000 for s in steps}, view["state"]
        await asyncio.sleep(0.005)


async def bare_nats(stack: Stack, count: int) -> list[float]:
    """Request and reply between two connections of the same server."""
    answering = await connect(stack.settings.effective_nats_url, stack.settings.credentials, "bare-a")
    asking = await connect(stack.settings.effective_nats_url, stack.settings.credentials, "bare-b")

    async def reply(message: Any) -> None:
        await message.respond(b"x")

    await answering.subscribe("bench.ping", cb=reply)
    await answering.flush()
    for _ in range(50):
        try:
            await asking.request("bench.ping", b"x", timeout=1)
            break
        except nats.errors.NoRespondersError:
            await asyncio.sleep(0.02)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await asking.request("bench.ping", b"x" * 300, timeout=5)
        times.append(time.perf_counter() - started)
    await asking.close()
    await answering.close()
    return times


async def bare_grpc(count: int) -> list[float]:
    """A unary call on loopback without TLS."""
    async def ping(request: bytes, _context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Ping", {"Ping": grpc.unary_unary_rpc_method_handler(ping)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    times = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/bench.Ping/Ping")
        for _ in range(count):
            started = time.perf_counter()
            await call(b"x" * 300)
            times.append(time.perf_counter() - started)
    await server.stop(None)
    return times


async def measure(stack: Stack, agents: list[RigAgent], report: Report) -> None:
    """All rounds, interleaved."""
    rng = random.Random(1)
    async with sign_in(stack) as client:
        async def everybody() -> bool:
            listed = (await client.get("/agents")).json()
            return len(listed) == len(agents) and all(a["online"] and a["devices_online"] == DEVICES for a in listed)

        deadline = time.monotonic() + 120
        while not await everybody():
            if time.monotonic() > deadline:
                raise TimeoutError("not every agent came online")
            await asyncio.sleep(0.5)
        clicks, nats_times, grpc_times, states = list[float](), list[float](), list[float](), list[str]()
        stages: dict[str, list[float]] = {}
        rounds = 4
        for number in range(rounds):
            for k in range(COMMANDS // rounds):
                if k % 50 == 0:
                    await prove_again(stack, client)
                agent = rng.choice(agents)
                took, steps, state = await one(client, rng.choice(agent.devices), ((number * COMMANDS + k) % 11_000 + 100) / 100)
                clicks.append(took)
                states.append(state)
                for stage, at in steps.items():
                    stages.setdefault(stage, []).append(at)
            nats_times += await bare_nats(stack, COMMANDS // rounds)
            grpc_times += await bare_grpc(COMMANDS // rounds)
    report.add("commands.verified_share", states.count("verified") / len(states), "of all", at_least=1.0)
    for q, name in ((0.5, "p50"), (0.99, "p99")):
        report.add(f"commands.click_to_verified_{name}", quantile(clicks, q), "s", at_most=2.0 if name == "p99" else None)
        report.add(f"commands.bare_nats_{name}", quantile(nats_times, q), "s")
        report.add(f"commands.bare_grpc_{name}", quantile(grpc_times, q), "s")
        report.add(f"commands.over_bare_nats_{name}", quantile(clicks, q) / quantile(nats_times, q), "x")
        report.add(f"commands.over_bare_grpc_{name}", quantile(clicks, q) / quantile(grpc_times, q), "x")
    for stage in ("sent", "received", "executing", "verified"):
        if stage in stages:
            report.add(f"commands.journal_{stage}_p99", quantile(stages[stage], 0.99), "s", at_most=10.0 if stage == "received" else None, note="clause 9.3: 10 s" if stage == "received" else "")


def main() -> int:
    """Entry point."""
    home = Path("build/bench-commands").resolve()
    shutil.rmtree(home, ignore_errors=True)
    report = Report("bench-commands")
    stack = Stack(home, only=("nats", "store", "audit", "control", "gateway", "ray", "runtime", "portal"), heartbeat_s=2, partitions=4, hosts=1)
    agents = [rig(stack.settings, f"c{k:02d}", devices=DEVICES, uplink="nats" if k % 4 == 0 else "grpc", linger_s=5, poll_s=5) for k in range(AGENTS)]
    prepare(stack.settings)
    with stack:
        for agent in agents:
            stack.supervisor.start(agent.children()[0], wait=False)
        for agent in agents:
            stack.supervisor.wait(f"field-{agent.agent_id}")
        stack.supervisor.start(Child("agents", [sys.executable, "-m", "benchmarks.rig.many", *(str(a.site_file) for a in agents)]))
        wait_until(lambda: True, 1, "start")
        asyncio.run(measure(stack, agents, report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
