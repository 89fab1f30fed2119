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
from cloud.functions.devices.agents_service import AgentService, BoxKeys
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.service import one_suite
from cloud.gateways.enrolment import platform_facts
from cloud.ledger import migrate, open_ledger
from cloud.runtime import loopback
from cloud.runtime.placement import DEDICATED, partition_for
from cloud.security import keys
from cloud.security.authority import AuthorityClient, AuthorityUnavailableError
from cloud.security.certificates import PLATFORM_ZONE, THIRD_ZONE, closed_circle
from cloud.security.nats_tokens import valid_user_key
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
    keys.box_keys(credentials, "telemetry")
    for name in ("command", "audit"):
        keys.publish(credentials, name)
    release = keys.signing_key(credentials / "release.ed25519")
    (credentials / "release.pub").write_bytes(release.public_key().public_bytes_raw())
    _fix_partitions(settings)
    keys.nkey_seed(credentials / "nats-platform.seed")
    keys.shared_secret(credentials / "ray.token")
    closed_circle(credentials, "ray", ["localhost", "127.0.0.1"])
    ledger = open_ledger(settings.effective_ledger_url)
    migrate(ledger)
    ledger.close()
    with AuthorityClient(settings.home, spawn=True) as authority:
        names = [settings.gateway_host, *([settings.public_host] if settings.public_host else [])]
        authority.server_files(credentials, "gateway", ["localhost", "127.0.0.1", "kang-gateway", *names])
        authority.server_files(credentials, "nats", ["localhost", "127.0.0.1", "kang-nats", settings.nats_host, *names])
        authority.server_files(credentials, "interfaces", ["localhost", "127.0.0.1", settings.interfaces_host, *([settings.public_host] if settings.public_host else [])], zone=THIRD_ZONE)
        authority.client_files(credentials, PLATFORM_ZONE, "nats")
        if not settings.nats_url:
            _own_nats(settings, authority)


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


def _own_nats(settings: Settings, authority: AuthorityClient) -> None:
    """Write nats.conf and the platform's own JWT; the streams of an installation from before operator mode move into our account."""
    credentials, trust = settings.credentials, authority.ask("nats")
    _, platform = keys.nkey_seed(credentials / "nats-platform.seed")
    keys.write_secret(credentials / "nats-platform.jwt", str(authority.ask("nats_platform", nkey=platform)["jwt"]).encode())
    store = settings.home / "jetstream" / "jetstream"
    if (store / "$G").exists() and not (store / trust["account"]).exists():
        (store / "$G").rename(store / trust["account"])
    text = nats_server.configuration(host=settings.nats_host, port=settings.nats_port, store=settings.home / "jetstream", certificate=credentials / "nats.pem", key=credentials / "nats.key",
                                     client_ca=credentials / "nats-clients.pem", operator=trust["operator"], system_account=trust["system_account"], accounts=settings.home / "nats-jwt",
                                     # Every stream has its own limit; the server's leaves room for each partition a project can have of its own, so that it never changes.
                                     max_store_bytes=(settings.partitions + DEDICATED) * STREAM_BYTES + (2 << 30))
    target = settings.home / "nats.conf"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def own_ports(settings: Settings) -> dict[str, int]:
    """Ports the processes started here will listen on."""
    ports = {"portal_port": settings.portal_port, "gateway_port": settings.gateway_port, "enrolment_port": settings.enrolment_port}
    if settings.interfaces_port:
        ports["interfaces_port"] = settings.interfaces_port
    if settings.interfaces_grpc_port:
        ports["interfaces_grpc_port"] = settings.interfaces_grpc_port
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
    found: list[Child] = [Child("ca", [python, "-m", "cloud.security.authority_service", "--home", home], lambda: authority_answers(settings))]
    if not settings.nats_url:
        found.append(Child("nats", [nats_server.binary(), "-c", str(settings.home / "nats.conf")], lambda: port_open(settings.nats_port)))
    if not settings.historian_url:
        found.append(Child("store", [python, "-m", "cloud.historian.store", "--path", str(settings.home / "historian" / "data"), "--port", str(settings.store_port), "--secret-file",
                                     str(settings.credentials / "store.secret")], lambda: port_open(settings.store_port)))
    found.append(Child("audit", [python, "-m", "cloud.security.audit_writer", "--home", home]))
    found.append(Child("control", [python, "-m", "cloud.control.service", "--home", home]))
    found.append(Child("gateway", [python, "-m", "cloud.gateways.edge", "--home", home], lambda: port_open(settings.gateway_port)))
    found.append(Child("enrolment", [python, "-m", "cloud.gateways.enrolment", "--home", home], lambda: port_open(settings.enrolment_port)))
    ray = ray_environment(settings)
    if not settings.ray_address:
        memory = str(128 << 20)
        temporary = ray_directory(settings)
        shutil.rmtree(temporary.parent, ignore_errors=True)
        temporary.parent.mkdir(mode=0o700)  # Ray opens its own directories to everybody; nobody else passes this one
        found.append(Child("ray", [
            python, "-m", "cloud.runtime.head", "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false", f"--port={settings.ray_port}",
            f"--node-ip-address={loopback.HERE}", f"--object-store-memory={memory}", f"--num-cpus={os.cpu_count() or 2}", f"--temp-dir={temporary}",
            "--min-worker-port=20000", "--max-worker-port=20999",
            "--no-monitor", "--include-log-monitor=false"], lambda: port_open(settings.ray_port), environment=ray, with_=("runtime",), ready_s=120))
    found.append(Child("runtime", [python, "-m", "cloud.runtime.main", "--home", home], environment=ray))
    found.append(Child("planner", [python, "-m", "cloud.planning", "--home", home]))
    found.append(Child("portal", [python, "-m", "cloud.app", "--home", home], lambda: port_open(settings.portal_port)))
    return found


def authority_answers(settings: Settings) -> bool:
    """Does the CA process serve?"""
    try:
        AuthorityClient(settings.home).status()
    except AuthorityUnavailableError:
        return False
    return True


def ray_environment(settings: Settings) -> dict[str, str]:
    """Ray with token authentication, one of our own with mutual TLS and on loopback alone, and without what an installation of ours does not need."""
    mine, here = settings.credentials, {}
    if not settings.ray_address:
        here = {loopback.VARIABLE: "1", "RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": str(mine / "ray.pem"), "RAY_TLS_SERVER_KEY": str(mine / "ray.key"), "RAY_TLS_CA_CERT": str(mine / "ray-ca.pem")}
    return {
        **here,
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
    try:
        suite = one_suite(signing, box)
    except ValueError as error:
        raise AdmissionError(problem=str(error)) from None
    if uplink == "nats" and not valid_user_key(nkey):
        raise AdmissionError(problem="no nkey / 缺少 nkey")
    with AuthorityClient(settings.home, spawn=True) as authority:
        ledger = open_ledger(settings.effective_ledger_url)
        try:
            issued = authority.agent(csr, project_id, agent_id)
            AgentService(ledger).admit(agent_id, project_id, BoxKeys(signing, box, nkey if uplink == "nats" else "", str(asked.get("hardware_id", ""))), uplink=uplink, serial=issued.serial,
                                       not_after_ms=issued.not_after_ms)
            project = LedgerDirectory(ledger).project(project_id)
            partition = partition_for(project, settings.partitions) if project is not None else 0
            files = {"agent.pem": issued.chain, "zone-ca.pem": (settings.credentials / "edge-ca.pem").read_bytes(), "platform.json": json.dumps(platform_facts(settings, suite)).encode()}
            if uplink == "nats" and not settings.nats_url:
                files["nats.jwt"] = authority.nats_user(nkey, project_id, agent_id, partition).encode()
        finally:
            ledger.close()
    return Admission(files, partition)
