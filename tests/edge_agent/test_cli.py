"""kang-edge: keys that nobody else reads, errors that name the field, a quick small start, and nothing lost by kill -9."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from edge_agent import cli, keygen
from edge_agent.config import load_credentials, load_site
from edge_agent.errors import SiteError
from edge_agent.spool import Spool

_spec = importlib.util.spec_from_file_location("edge_driver_peers", Path(__file__).parent / "drivers" / "test_drivers.py")
assert _spec is not None
assert _spec.loader is not None
peers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peers)

ROOT = Path(__file__).parents[2]
SITE = {"project_id": 7, "agent_id": "box1", "state_dir": "state", "credentials_dir": "credentials", "uplink": {"kind": "grpc", "address": "127.0.0.1:1"}, "clock": "system", "linger_s": 0.2,
        "channels": [{"name": "bus", "protocol": "modbus", "host": "127.0.0.1", "port": 1}],
        "devices": [{"id": 1, "template": "electric_boiler_modbus", "channel": "bus", "unit": 3, "poll_s": 0.2, "points": {"leaving_temp": {"deadband": 0.5}}}]}


def write(home: Path, **changes) -> Path:
    (home / "site.yaml").write_text(yaml.safe_dump(SITE | changes))
    return home / "site.yaml"


def credentials(home: Path) -> Path:
    directory = home / "credentials"
    keygen.make(directory)
    (directory / "platform.json").write_text(json.dumps({"telemetry_box": "09" + "00" * 31, "command_signing": json.loads((directory / "agent.request.json").read_text())["signing_public"]}))
    for name in ("zone-ca.pem", "agent.pem"):
        (directory / name).write_bytes(b"")
    return directory


def test_keys_are_private_and_never_overwritten(tmp_path, capsys):
    assert cli.main(["keygen", str(tmp_path / "keys")]) == 0
    for name in ("agent.ed25519", "agent.x25519", "agent.key", "nats.seed"):
        assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600
    request = json.loads((tmp_path / "keys" / "agent.request.json").read_text())
    assert (len(request["signing_public"]), len(request["box_public"]), request["nkey"][0]) == (64, 64, "U")
    assert "BEGIN CERTIFICATE REQUEST" in request["csr"]
    secret = (tmp_path / "keys" / "agent.ed25519").read_bytes()
    assert secret.hex() not in json.dumps(request)
    assert cli.main(["keygen", str(tmp_path / "keys")]) == 2
    assert (tmp_path / "keys" / "agent.ed25519").read_bytes() == secret
    assert "E-SITE" in capsys.readouterr().err


def test_keys_readable_by_others_are_refused(tmp_path):
    directory = credentials(tmp_path)
    (directory / "agent.x25519").chmod(0o644)
    with pytest.raises(SiteError) as caught:
        load_credentials(directory)
    assert caught.value.values["field"] == "agent.x25519"


def test_a_template_is_tried_from_the_command_line(capsys):
    assert cli.main(["test-device", "electric_boiler_modbus"]) == 0
    assert "samples, ok" in capsys.readouterr().out
    assert cli.main(["test-device", "nothing"]) == 2


def test_a_site_is_read_with_its_overrides(tmp_path):
    site = load_site(write(tmp_path))
    assert site.devices[1].device.points["leaving_temp"].deadband == 0.5
    assert (site.partitions, site.heartbeat_s, site.state_dir) == (8, 5.0, tmp_path / "state")


@pytest.mark.parametrize(("changes", "field"), [
    ({"project_id": "x"}, "project_id"), ({"agent_id": "a.b"}, "agent_id"), ({"uplink": {"kind": "pigeon"}}, "uplink.kind"), ({"uplink": {"kind": "nats"}}, "uplink.url"), ({"clock": "sun"}, "clock"),
    ({"channels": [{"name": "bus", "protocol": "modbus", "host": "h"}]}, "channels.0.port"), ({"channels": [{"name": "bus", "protocol": "morse"}]}, "channels.0.protocol"),
    ({"devices": [{"id": 1, "template": "electric_boiler_modbus", "channel": "no"}]}, "devices.0.channel"),
    ({"devices": [{"id": 1, "template": "electricity_meter_dlt645", "channel": "bus"}]}, "devices.0.channel"),
    ({"devices": [*SITE["devices"], *SITE["devices"]]}, "devices.1.id"), ({"devices": 5}, "devices"),
    ({"devices": [{"id": 1, "template": "electric_boiler_modbus", "channel": "bus", "points": {"soc": {}}}]}, "devices.0.points.soc")])
def test_a_mistake_in_the_site_file_is_named(tmp_path, changes, field):
    with pytest.raises(SiteError) as caught:
        load_site(write(tmp_path, **changes))
    assert caught.value.values["field"] == field


async def start(site: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "edge_agent.cli", "run", "--site", str(site), cwd=ROOT, stderr=asyncio.subprocess.PIPE)


async def line(process: asyncio.subprocess.Process, message: str) -> dict:
    async with asyncio.timeout(15):
        while True:
            text = await process.stderr.readline()
            assert text, "the agent died"
            if text.startswith(b"{") and json.loads(text)["message"] == message:
                return json.loads(text)


@pytest.mark.slow
async def test_the_agent_starts_quickly_and_stays_small(tmp_path):
    credentials(tmp_path)
    slave = peers.Slave()
    async with peers.listening(slave.serve) as port:
        began = time.perf_counter()
        process = await start(write(tmp_path, channels=[SITE["channels"][0] | {"port": port}]))
        await line(process, "device answers")
        took = time.perf_counter() - began
        resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert took < 4, "2 s alone on the machine; the tests leave room for neighbours"
    assert resident < 80


@pytest.mark.slow
async def test_killing_the_agent_at_any_moment_loses_no_sealed_reading_and_breaks_no_chain(tmp_path):
    from protos import envelope
    credentials(tmp_path)
    slave = peers.Slave()
    seen = 0
    async with peers.listening(slave.serve) as port:
        site = write(tmp_path, channels=[SITE["channels"][0] | {"port": port}])
        for round_ in range(3):
            process = await start(site)
            await line(process, "device answers")
            for _ in range(5 + round_):
                slave.holding[4] += 10
                await asyncio.sleep(0.15)
            process.kill()
            await process.wait()
            spool = Spool(tmp_path / "state" / "spool.db", project_id=7, agent_id="box1", signing_key=load_credentials(tmp_path / "credentials").signing, new_epoch=b"n" * 16)
            assert spool.pending(0, 1000) == list(range(1, spool.last_sequence + 1))
            assert spool.last_sequence > seen
            seen, previous = spool.last_sequence, envelope.GENESIS
            for sequence in spool.pending(0, 1000):
                signed = spool.get(sequence)
                assert envelope.Header.unpack(signed.header).previous == previous
                previous = signed.digest
            spool.close()


def test_two_agents_never_share_a_spool(tmp_path, capsys):
    import fcntl

    file = tmp_path / "site.yaml"
    credentials(tmp_path)
    file.write_text(yaml.safe_dump(SITE))
    (tmp_path / "state").mkdir()
    with (tmp_path / "state" / "agent.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cli.main(["run", "--site", str(file)]) == 2
    assert "another kang-edge already runs" in capsys.readouterr().err
