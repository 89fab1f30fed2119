"""The files of "connect a real device" do what the page says: a live read, and the whole way to an admitted agent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from benchmarks.rig.field import Field
from cloud.core.settings import load
from cloud.functions.devices.directory import LedgerDirectory
from cloud.installation import prepare
from cloud.ledger import open_ledger
from edge_agent import keygen
from edge_agent.config import load_credentials, load_site

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    field = Field(1, tmp_path / "writes.jsonl")
    server = await asyncio.start_server(field.serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def box(home: Path, **changes: object) -> Path:
    """The example site in a directory of its own, with what an engineer changes."""
    document = yaml.safe_load((EXAMPLES / "site.yaml").read_text())
    document["channels"][0]["port"] = changes.pop("port", 1502)
    document.update(changes)
    home.mkdir(exist_ok=True)
    (home / "feeder_meter.yaml").write_text((EXAMPLES / "feeder_meter.yaml").read_text())
    (home / "site.yaml").write_text(yaml.safe_dump(document))
    return home / "site.yaml"


async def run_test_device(template: Path, site: Path) -> tuple[int, list[dict], str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "edge_agent.cli", "test-device", str(template), "--site", str(site), "--device", "1",
                                                   cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, error = await process.communicate()
    lines = out.decode().splitlines()
    return process.returncode or 0, [json.loads(line) for line in lines if line.startswith("{")], lines[-1] if lines else error.decode()


async def test_the_example_reads_a_live_meter(port, tmp_path):
    site = box(tmp_path / "box", port=port)
    code, rows, last = await run_test_device(site.parent / "feeder_meter.yaml", site)
    assert (code, last) == (0, "feeder_meter: 3 samples, ok")
    live = {row["point"]: row for row in rows if "quality" in row}
    assert set(live) == {"active_power", "voltage_a", "current_a", "energy_import"}
    assert all(row["quality"] == "GOOD" for row in live.values())
    assert 0 <= live["active_power"]["value"] < 500
    assert live["active_power"]["unit"] == "kW"


async def test_a_meter_that_is_not_there_is_named(tmp_path):
    site = box(tmp_path / "box", port=1)
    code, rows, _ = await run_test_device(site.parent / "feeder_meter.yaml", site)
    assert code == 1
    assert rows[-1]["error"].startswith("E-DEVICE.")


def kang(home: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "cloud.cli", "--home", str(home), *words], cwd=ROOT, env={**os.environ, "LC_ALL": "en_US.UTF-8"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_box_is_registered_and_admitted_by_the_page(tmp_path):
    home = tmp_path / "home"
    prepare(load(home))
    keygen.make(tmp_path / "box" / "credentials")
    project = int(kang(home, "project", "--code", "FARM", "--name-zh", "农场", "--name-en", "Farm", "--area", "1200", "--latitude", "40.1", "--longitude", "116.6"))
    said = kang(home, "admit", str(tmp_path / "box" / "credentials" / "agent.request.json"), "--agent", "box-1", "--project", str(project))
    assert "Admitted box-1" in said
    assert "feeder_meter@1" in kang(home, "template", str(EXAMPLES / "feeder_meter.yaml"))
    device = int(kang(home, "device", "--project", str(project), "--agent", "box-1", "--code", "FM1", "--name-zh", "馈线表", "--name-en", "Feeder meter", "--template", "feeder_meter"))
    site = load_site(box(tmp_path / "box", project_id=project))
    credentials = load_credentials(site.credentials_dir)
    assert credentials.gateway_name == "kang-gateway"
    ledger = open_ledger(load(home).effective_ledger_url)
    directory = LedgerDirectory(ledger)
    known, agent = directory.device(device), directory.agent("box-1")
    ledger.close()
    assert known is not None
    assert known.agent_id == "box-1"
    assert len(known.points) == len(site.devices[1].device.points) == 4
    assert agent is not None
    assert agent.signing_public == credentials.signing.public_key().public_bytes_raw()
