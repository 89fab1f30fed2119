"""The platform as VEN of another platform's VTN over a real socket: events come as orders once, follow their changes, go when they are taken away; what was metered goes back; an unreachable VTN undoes nothing."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from benchmarks.stack import free_ports
from cloud.core.clock import now_ms
from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.resources import metered
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import Happening
from cloud.functions.interfaces.openadr.peer import Peer, PeerError, PeerSettings, read
from cloud.functions.interfaces.openadr.times import stamp
from cloud.functions.interfaces.openadr.ven import Ven
from cloud.functions.system.journal import OperationJournal
from cloud.ledger import Ledger, open_ledger
from tests.support.openadr import PREFIX
from tests.support.site import Site, build

pytestmark = pytest.mark.point("51")
SCOPE = ["demand_response.resource.read", "demand_response.program.change", "demand_response.exchange.write", *(f"demand_response.dispatch.{act}" for act in ("read", "submit", "cancel"))]


class Pair:
    """The VTN's platform behind a socket, its business-logic client, and the VEN's platform."""

    def __init__(self, above: Site, below: Ledger, folder: Path) -> None:
        self.above, self.below = above, build(below)
        for site in (self.above, self.below):
            for code in ("cuihu", "yanqi"):
                ResponseService(site.ledger, now_ms).keep_resource(site.projects[code], metered(200.0, 0.0, now_ms()))
        port = free_ports(1)[0]
        self.server = uvicorn.Server(uvicorn.Config(above.app, host="127.0.0.1", port=port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        client, secret = above.clients.register("grid", SCOPE, priority=0, rate=1000.0, burst=1000)
        self.url = f"http://127.0.0.1:{port}/api/v1/{PREFIX}"
        self.grid = httpx.Client(base_url=self.url)
        self.grid.headers["authorization"] = f"Bearer {above.clients.token(client['id'], secret)['access_token']}"
        file = folder / "openadr.json"
        file.write_text(json.dumps({"url": self.url, "client_id": client["id"], "client_secret": secret, "ven_name": "haidian", "projects": ["cuihu"]}))
        found = read(file)
        assert found is not None
        self.settings = found
        self.ven = Ven(Peer(found), self.below.ledger, now_ms, self.below.directory.projects)
        self.desk = ResponseService(self.below.ledger, now_ms)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.grid.request(method, path, json=body) if body is not None else self.grid.request(method, path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def mine(self) -> list[dict[str, Any]]:
        return self.desk.events(dispatcher=self.ven.owner, sort="created_ms", descending=False)[0]

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.grid.close()


@pytest.fixture
def pair(ledger: Ledger, furnished: Path, tmp_path: Path) -> Iterator[Pair]:
    shutil.copy(furnished, tmp_path / "below.db")
    below = open_ledger(f"sqlite:///{tmp_path / 'below.db'}")
    made = Pair(build(ledger), below, tmp_path)
    yield made
    made.stop()
    below.close()


def event(program: str, targets: list[str], limit: float = 120.0, **change: Any) -> dict[str, Any]:
    return {"programID": program, "targets": targets, "intervalPeriod": {"start": stamp(now_ms() + 300_000), "duration": "PT30M"}, "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [limit]}]}], **change}


def test_events_of_another_vtn_are_taken_followed_reported_and_let_go(pair: Pair) -> None:
    program = pair.ask("POST", "/programs", {"programName": "load", "attributes": [{"type": "KANG_KIND", "values": ["order"]}]}, 201)["id"]
    made = pair.ask("POST", "/events", event(program, ["cuihu"]), 201)
    foreign = pair.ask("POST", "/events", event(program, ["yanqi"]), 201)
    assert pair.ven.look() == {"taken": 1, "refused": 1, "dropped": 0, "reported": 0}, "who may ask for what is for our own settings to say"
    order = pair.mine()[0]
    assert (order["state"], order["kind"], order["version"], order["document"]["kw"], order["document"]["resources"]) == ("published", "order", 1, [120.0], ["cuihu"])
    newest = next(r for r in OperationJournal(pair.below.ledger).rows(limit=5) if r["result"] == "refused")
    assert (newest["operation"], newest["code"], newest["operator"], newest["target"]) == ("demand_response.dispatch.submit", "E-OPENADR-FIELD", pair.ven.owner, f"event/{foreign['id']} targets.0")
    assert pair.ven.look() == {"taken": 0, "refused": 0, "dropped": 0, "reported": 0}
    # -- another process of ours knows what was taken
    again = Ven(Peer(pair.settings), pair.below.ledger, now_ms, pair.below.directory.projects)
    assert again.look()["taken"] == 0
    pair.ask("PUT", f"/events/{made['id']}", {**made, "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [90.0]}]}]})
    assert pair.ven.look()["taken"] == 1
    assert (pair.mine()[0]["version"], pair.mine()[0]["asked_kw"]) == (2, 90.0)
    # -- under way: what is metered goes back
    soon = {**event(program, ["cuihu"], 150.0), "intervalPeriod": {"start": "0001-01-01T00:00:00Z", "duration": "PT30M"}}
    running = pair.ask("POST", "/events", soon, 201)
    assert pair.ven.look()["taken"] == 1
    order = pair.mine()[1]
    for step in (Happening.CONFIRM, Happening.START):
        pair.desk.happen(order["id"], step)
    Records(pair.below.ledger).keep_minutes([{"event": order["id"], "at_ms": order["start_ms"] // 60_000 * 60_000, "metered_kw": 140.0, "baseline_kw": 200.0, "target_kw": 150.0, "measured": 1, "projects": 1, "short": []}])
    assert pair.ven.look()["reported"] == 1
    assert pair.ven.look()["reported"] == 0, "told once"
    report = next(r for r in pair.ask("GET", f"/reports?eventID={running['id']}") if r["clientName"] == "haidian")
    assert {p["type"]: p["values"][0] for p in report["resources"][0]["intervals"][0]["payloads"]} == {"DEMAND": 140.0, "BASELINE": 200.0, "KANG_TARGET": 150.0, "DATA_QUALITY": "OK"}
    pair.desk.happen(order["id"], Happening.RECOVER)
    fresh = Ven(Peer(pair.settings), pair.below.ledger, now_ms, pair.below.directory.projects)
    assert fresh.look()["reported"] == 1, "a new process finds the report it began"
    assert [r["reportName"] for r in pair.ask("GET", f"/reports?eventID={running['id']}") if r["clientName"] == "haidian"] == ["recovered"]
    # -- gone there is gone here, but not because nobody answers
    pair.ask("DELETE", f"/events/{made['id']}")
    pair.ask("DELETE", f"/events/{foreign['id']}")
    assert pair.ven.look()["dropped"] == 1
    assert pair.mine()[0]["state"] == "cancelled"


def test_an_unreachable_vtn_undoes_nothing(pair: Pair) -> None:
    program = pair.ask("POST", "/programs", {"programName": "load", "attributes": [{"type": "KANG_KIND", "values": ["order"]}]}, 201)["id"]
    pair.ask("POST", "/events", event(program, ["cuihu"]), 201)
    assert pair.ven.look()["taken"] == 1
    wrong = Ven(Peer(PeerSettings(pair.url, pair.settings.client_id, "guess")), pair.below.ledger, now_ms, pair.below.directory.projects)
    with pytest.raises(PeerError, match="401"):
        wrong.look()
    pair.server.should_exit = True
    pair.thread.join(10)
    with pytest.raises(PeerError):
        pair.ven.look()
    assert [e["state"] for e in pair.mine()] == ["published"]


def test_who_joins_an_event_that_is_voluntary_is_in_it(pair: Pair) -> None:
    pair.desk.change_strategy(pair.below.projects["cuihu"], {"participates": True, "depth": 1.0}, "Li")
    ResponseService(pair.above.ledger, now_ms).change_strategy(pair.above.projects["cuihu"], {"participates": True, "depth": 1.0}, "Li")
    program = pair.ask("POST", "/programs", {"programName": "invited", "attributes": [{"type": "KANG_GATE", "values": ["PT1M"]}]}, 201)["id"]
    payloads = [{"type": "DISPATCH_SETPOINT_RELATIVE", "values": [-50.0]}, {"type": "PRICE", "values": [0.8]}]
    pair.ask("POST", "/events", event(program, ["cuihu"], intervalPeriod={"start": stamp(now_ms() + 300_000), "duration": "PT15M"}, intervals=[{"id": 0, "payloads": payloads}]), 201)
    assert pair.ven.look()["taken"] == 1
    order = pair.mine()[0]
    assert (order["kind"], order["document"]["micro_kwh"]) == ("market", 800_000)
    pair.desk.happen(order["id"], Happening.INVITE)
    pair.desk.bid(order["id"], 40.0, 700_000, "Li")
    pair.ven.look()
    assert (pair.mine()[0]["state"], pair.mine()[0]["outcome"]["cleared"]) == ("cleared", {"kw": 40.0, "micro_kwh": 800_000})


def test_a_redirect_is_not_followed_and_nonsense_is_an_error() -> None:
    """The token goes to the address that was set and nowhere else."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(200, b'{"access_token": "t", "token_type": "Bearer", "expires_in": 600}')

        def do_GET(self) -> None:
            asked.append(self.path.partition("?")[0])
            if self.path.startswith("/programs"):
                self.answer(302, b"", location="/elsewhere")
            else:
                self.answer(200, b'{"events": "none"}')

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        peer = Peer(PeerSettings(f"http://127.0.0.1:{server.server_port}", "a", "b"))
        with pytest.raises(PeerError, match="302"):
            peer.all("/programs")
        with pytest.raises(PeerError, match="no list"):
            peer.all("/events")
        server.shutdown()
        thread.join()
    assert asked == ["/programs", "/events"]


@pytest.mark.parametrize("change", [{"url": "http://grid.example"}, {"url": 5}, {"every_s": 0}, {"ven_name": "kang"}, {"colour": "red"}, {"client_id": ...}])
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, change: dict[str, Any]) -> None:
    given = {k: v for k, v in {"url": "https://grid.example/openadr3/3.1.0", "client_id": "a", "client_secret": "b", **change}.items() if v is not ...}
    (tmp_path / "openadr.json").write_text(json.dumps(given))
    with pytest.raises(PeerError, match=r"openadr\.json"):
        read(tmp_path / "openadr.json")
    assert read(tmp_path / "none.json") is None
