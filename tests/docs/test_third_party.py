"""The docs' third-party application, run as it stands against a real portal over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

from benchmarks.stack import free_ports, wait_until
from cloud.client import Busy, Kang, KangProblem
from cloud.ledger import Ledger
from tests.support.site import build, furnish

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "third_party.py"
READ = ["devices.project.read", "monitoring.latest.read", "monitoring.alarms.read", "monitoring.history.read"]


@pytest.mark.point("P4")
def test_the_third_party_application_runs_and_the_client_knows_its_limits(ledger: Ledger) -> None:
    site = build(ledger)
    furnish(site)
    server = uvicorn.Server(uvicorn.Config(site.app, host="127.0.0.1", port=(port := free_ports(1)[0]), log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, 20, "portal")
    url = f"http://127.0.0.1:{port}"
    try:
        view, secret = site.clients.register("app", READ, project_ids=[site.projects["cuihu"]], rate=1000, burst=1000)
        done = subprocess.run([sys.executable, str(EXAMPLE), url], capture_output=True, text=True, timeout=60, check=False,
                              env={**os.environ, "KANG_CLIENT_ID": view["id"], "KANG_CLIENT_SECRET": secret, "PYTHONPATH": str(EXAMPLE.parents[2])})
        assert done.returncode == 0, done.stderr
        assert "cuihu: " in done.stdout
        assert "yanqi" not in done.stdout
        assert "alarm critical" in done.stdout
        waits: list[float] = []
        with Kang(url, view["id"], secret, sleep=waits.append) as kang:
            assert kang.myself()["name"] == "app"
            with pytest.raises(KangProblem) as refused:
                kang.command(site.device("cuihu", "EB1"), "stop")
            assert (refused.value.status, refused.value.code) == (403, "E-CLIENT-SCOPE")
            site.clients.change(view["id"], {"rate": 0.01, "burst": 1})
            kang.projects()  # the old token has ended: a new one is taken by itself
            with pytest.raises(Busy):
                kang.projects()
            assert waits
            assert max(waits) <= 30
        with pytest.raises(KangProblem, match="E-CLIENT"):
            Kang(url, view["id"], "wrong").projects()
    finally:
        server.should_exit = True
        thread.join(10)
