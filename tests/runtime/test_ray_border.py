"""Our own Ray keeps to this machine and to itself: loopback only, mutual TLS, a token."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cloud.installation import ray_environment
from tests.support.real import Real

pytestmark = pytest.mark.slow
JOIN = "import ray, sys; from cloud.runtime.loopback import stay_here; stay_here(); ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); print('joined', len(ray.nodes()))"


@pytest.mark.point("P6")
def test_no_process_of_ray_listens_beyond_loopback(real: Real) -> None:
    supervisor = real.stack.supervisor
    family = [p for name in ("ray", "runtime") for p in (psutil.Process(supervisor.pid(name)), *psutil.Process(supervisor.pid(name)).children(recursive=True))]
    listening = {(c.laddr.ip, c.laddr.port) for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert any(port == real.settings.ray_port for _, port in listening)
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.point("P6")
def test_the_head_answers_nobody_without_a_certificate_of_its_circle(real: Real) -> None:
    trust = ssl.create_default_context(cafile=str(real.settings.credentials / "ray-ca.pem"))
    trust.set_alpn_protocols(["h2"])
    stranger = ssl.create_default_context(cafile=str(real.settings.credentials / "ray-ca.pem"))
    stranger.load_cert_chain(real.settings.credentials / "platform-nats.pem", real.settings.credentials / "platform-nats.key")
    stranger.set_alpn_protocols(["h2"])
    for context in (trust, stranger):
        with socket.create_connection(("127.0.0.1", real.settings.ray_port), timeout=10) as plain, pytest.raises(OSError), context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            wrapped.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            if not wrapped.recv(1):
                raise ConnectionResetError("turned away")


@pytest.mark.point("P6")
def test_a_driver_joins_with_token_and_certificate_only(real: Real) -> None:
    environment = {**os.environ, **ray_environment(real.settings), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", JOIN, f"127.0.0.1:{real.settings.ray_port}"], capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert "joined 1" in done.stdout, done.stderr[-1500:]
