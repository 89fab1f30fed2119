"""An installation on disk: its keys and configuration, its processes, and the admission of edge agents.

Must not know: HTTP, pages.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass

from cloud.bus import server as nats_server
from cloud.bus.streams import STREAM_BYTES
from cloud.core.settings import Settings, SettingsError, ray_directory
from cloud.core.supervision import Child, port_open
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.service import DeviceService
from cloud.ledger import migrate, open_ledger
from cloud.runtime.placement import DEDICATED, partition_for
from cloud.security import keys
from cloud.security.certificates import EDGE_ZONE, Authority
from protos import subjects
from protos.errors import KangError


class AdmissionError(KangError):
    """An agent's request file cannot be used."""

    code = "E-ADMIT"
    zh = "接入申请不可用：{problem}。请在设备上重新运行 kang-edge keygen 并传回 agent.request.json。"
    en = "The admission request cannot be used: {problem}. Run kang-edge keygen on the device again and bring agent.request.json."


def prepare(settings: Settings) -> None:
    """Everything an installation needs before its first process starts; safe to run again."""
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.save()
    credentials = settings.credentials
    credentials.mkdir(mode=0o700, exist_ok=True)
    keys.shared_secret(credentials / "store.secret")
    keys.box_key(credentials / "telemetry.x25519")
    command = keys.signing_key(credentials / "command.ed25519")
    (credentials / "command.pub").write_bytes(command.public_key().public_bytes_raw())
    keys.signing_key(credentials / "audit.ed25519")
    release = keys.signing_key(credentials / "release.ed25519")
    (credentials / "release.pub").write_bytes(release.public_key().public_bytes_raw())
    _fix_partitions(settings)
    keys.nkey_seed(credentials / "nats-platform.seed")
    keys.shared_secret(credentials / "ray.token")
    authority = Authority(credentials, EDGE_ZONE)
    authority.server(credentials, "gateway", ["localhost", "127.0.0.1", "kang-gateway", settings.gateway_host])
    authority.server(credentials, "nats", ["localhost", "127.0.0.1", "kang-nats", settings.nats_host])
    ledger = open_ledger(settings.effective_ledger_url)
    migrate(ledger)
    ledger.close()
    write_nats_configuration(settings)


def _fix_partitions(settings: Settings) -> None:
    """Remember the number of partitions at the first start; another number later would scatter a project's stream.

    Raises:
        SettingsError: it was changed.
    """
    file = settings.home / "partitions"
    if not file.exists():
        file.write_text(str(settings.partitions))
    elif int(file.read_text()) != settings.partitions:
        raise SettingsError(name="partitions", problem=f"was {file.read_text()} at the first start and cannot change", file=settings.home / "kang.toml")


def write_nats_configuration(settings: Settings) -> None:
    """Write nats.conf with one user per NATS agent; a running server takes it up on SIGHUP."""
    credentials = settings.credentials
    ledger = open_ledger(settings.effective_ledger_url)
    directory = LedgerDirectory(ledger)
    agents = []
    for agent in directory.agents():
        seed_public = settings.home / "nats-agents" / f"{agent.agent_id}.nkey"
        project = directory.project(agent.project_id)
        if agent.uplink == "nats" and not agent.revoked and seed_public.exists() and project is not None:
            agents.append(nats_server.AgentUser(seed_public.read_text().strip(), agent.project_id, agent.agent_id, partition_for(project, settings.partitions)))
    ledger.close()
    _, platform = keys.nkey_seed(credentials / "nats-platform.seed")
    text = nats_server.configuration(host=settings.nats_host, port=settings.nats_port, store=settings.home / "jetstream", certificate=credentials / "nats.pem", key=credentials / "nats.key",
                                     # Every stream has its own limit; the server's leaves room for each partition a project can have of its own, so that it never changes.
                                     platform_nkey=platform, agents=agents, max_store_bytes=(settings.partitions + DEDICATED) * STREAM_BYTES + (2 << 30))
    target = settings.home / "nats.conf"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def own_ports(settings: Settings) -> dict[str, int]:
    """Ports the processes started here will listen on."""
    ports = {"portal_port": settings.portal_port, "gateway_port": settings.gateway_port}
    if not settings.nats_url:
        ports["nats_port"] = settings.nats_port
    if not settings.historian_url:
        ports["store_port"] = settings.store_port
    if not settings.ray_address:
        ports["ray_port"] = settings.ray_port
    return ports


def children(settings: Settings) -> list[Child]:
    """The processes of an embedded installation, in starting order; what is given by URL is not started."""
    home, python = str(settings.home), sys.executable
    found: list[Child] = []
    if not settings.nats_url:
        found.append(Child("nats", [nats_server.binary(), "-c", str(settings.home / "nats.conf")], lambda: port_open(settings.nats_port)))
    if not settings.historian_url:
        found.append(Child("store", [python, "-m", "cloud.historian.store", "--path", str(settings.home / "historian" / "data"), "--port", str(settings.store_port), "--secret-file",
                                     str(settings.credentials / "store.secret")], lambda: port_open(settings.store_port)))
    found.append(Child("audit", [python, "-m", "cloud.security.audit_writer", "--home", home]))
    found.append(Child("control", [python, "-m", "cloud.control.service", "--home", home]))
    found.append(Child("gateway", [python, "-m", "cloud.gateways.edge", "--home", home], lambda: port_open(settings.gateway_port)))
    ray = ray_environment(settings)
    if not settings.ray_address:
        memory = str(128 << 20)
        temporary = ray_directory(settings)
        shutil.rmtree(temporary.parent, ignore_errors=True)
        temporary.parent.mkdir(mode=0o700)  # Ray opens its own directories to everybody; nobody else passes this one
        found.append(Child("ray", [
            python, "-m", "cloud.runtime.head", "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false", f"--port={settings.ray_port}",
            "--node-ip-address=127.0.0.1", f"--object-store-memory={memory}", f"--num-cpus={os.cpu_count() or 2}", f"--temp-dir={temporary}",
            "--min-worker-port=20000", "--max-worker-port=20999",
            "--no-monitor", "--include-log-monitor=false"], lambda: port_open(settings.ray_port), environment=ray, with_=("runtime",), ready_s=120))
    found.append(Child("runtime", [python, "-m", "cloud.runtime.main", "--home", home], environment=ray))
    found.append(Child("portal", [python, "-m", "cloud.app", "--home", home], lambda: port_open(settings.portal_port)))
    return found


def ray_environment(settings: Settings) -> dict[str, str]:
    """Ray with token authentication, and without what an installation of ours does not need."""
    return {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(settings.credentials / "ray.token"), "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_prestart_worker_first_driver": "0", "RAY_enable_metrics_collection": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",  # Ray would start hosts at nice 15: starved by everything else on a busy machine
    }


@dataclass(frozen=True, slots=True)
class Admission:
    """What goes back to the device: the files of its credentials directory."""

    files: dict[str, bytes]
    partition: int


def admit(settings: Settings, request: bytes, *, agent_id: str, project_id: int, uplink: str) -> Admission:
    """Admit an agent from the request made on the device; its private keys never come here.

    Raises:
        AdmissionError: the request is malformed.
        CertificateError: its signing request is refused.
        RegistrationError: the project is unknown.
    """
    try:
        asked = json.loads(request)
        signing, box, csr, nkey = bytes.fromhex(asked["signing_public"]), bytes.fromhex(asked["box_public"]), str(asked["csr"]).encode(), str(asked.get("nkey", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise AdmissionError(problem=f"{type(error).__name__} {error}") from None
    if uplink == "nats" and not nkey.startswith("U"):
        raise AdmissionError(problem="no nkey / 缺少 nkey")
    authority = Authority(settings.credentials, EDGE_ZONE)
    certificate, serial = authority.agent(csr, subjects.agent_identity(project_id, agent_id))
    ledger = open_ledger(settings.effective_ledger_url)
    DeviceService(ledger).register_agent(agent_id, project_id, signing_public=signing, box_public=box, uplink=uplink, certificate_serial=serial)
    project = LedgerDirectory(ledger).project(project_id)
    ledger.close()
    if uplink == "nats":
        folder = settings.home / "nats-agents"
        folder.mkdir(exist_ok=True)
        (folder / f"{agent_id}.nkey").write_text(nkey)
        write_nats_configuration(settings)
    platform = {
        "telemetry_box": keys.box_key(settings.credentials / "telemetry.x25519").public_key().public_bytes_raw().hex(),
        "command_signing": (settings.credentials / "command.pub").read_bytes().hex(), "gateway_name": "kang-gateway",
    }
    return Admission({"agent.pem": certificate, "zone-ca.pem": authority.certificate_file.read_bytes(), "platform.json": json.dumps(platform).encode()},
                     partition_for(project, settings.partitions) if project is not None else 0)
