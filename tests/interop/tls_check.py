"""Every TLS listener of a live platform against Mozilla's intermediate profile, judged by sslyze from an environment of its own.

`make tls-check` or `python -m tests.interop.tls_check [--home DIR]`: the running installation in DIR, else one started for it. Prints each finding,
writes build/results/tls-check.json, ends with 1 on any that is not explained here. Must not know: how our listeners are made.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stack import Stack
from cloud.core.settings import Settings, load
from cloud.security.authority import AuthorityClient
from cloud.security.certificates import EDGE_ZONE, THIRD_ZONE, key_pem, make_request
from cloud.security.keys import write_secret

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "peers" / "sslyze"
LOCK = ROOT / "requirements" / "tls-check.txt"
#: sslyze's command line; its SSL 2 client is from a time before elliptic-curve keys, and needs none to be turned away.
RUN = """
from nassl.ssl_client import BaseSslClient, OpenSslVersionEnum
from sslyze.__main__ import main
ours = BaseSslClient._init_client_authentication
BaseSslClient._init_client_authentication = lambda self, *given: None if self._ssl_version is OpenSslVersionEnum.SSLV2 else ours(self, *given)
main()
"""
RESULTS = ROOT / "build" / "results" / "tls-check.json"


#: Findings we cannot remove and why, by (listener, beginning); printed each time, not counted.
EXPLAINED = {("gateway", "tls_curves: TLS curves {'secp521r1'} "): "gRPC's core offers P-521 by default (kDefaultBoringSSLKeyExchangeGroups) and its Python API has no switch; the curve is stronger than the profile's, not weaker"}


@dataclass(frozen=True, slots=True)
class Listener:
    """What is scanned: its port, the zone of the client certificate it insists on, and whether it speaks a line before TLS begins (NATS)."""

    name: str
    port: int
    zone: str = ""
    greets: bool = False


def listeners(settings: Settings) -> list[Listener]:
    """The TLS listeners of an installation that runs here."""
    found = [Listener("gateway", settings.gateway_port, EDGE_ZONE), Listener("enrolment", settings.enrolment_port), Listener("interfaces", settings.interfaces_port, THIRD_ZONE)]
    return found if settings.nats_url else [*found, Listener("nats", settings.nats_port, greets=True)]


def sslyze() -> Path:
    """Python with the scanner, installed when it is missing."""
    binary = PLACE / "bin" / "python"
    if not (PLACE / "bin" / "sslyze").exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(PLACE)], check=True)
        subprocess.run([str(uv), "pip", "install", "--quiet", "--python", str(PLACE / "bin" / "python"), "--require-hashes", "-r", str(LOCK)], check=True)
    return binary


@contextmanager
def after_greeting(port: int) -> Iterator[int]:
    """A port where TLS begins at once: each connection's first line from the server is taken away."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            while True:
                try:
                    near, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=join, args=(near,), daemon=True).start()

        def join(near: socket.socket) -> None:
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                while far.recv(1) not in (b"\n", b""):
                    pass
                other = threading.Thread(target=carry, args=(far, near), daemon=True)
                other.start()
                carry(near, far)
                other.join()

        def carry(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(65_536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                for end in (source, target):
                    end.close()

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])


def scan(settings: Settings, listener: Listener) -> list[str]:
    """Findings of one listener; nothing is found where it complies."""
    with tempfile.TemporaryDirectory() as folder, after_greeting(listener.port) if listener.greets else _as_it_is(listener.port) as port:
        done = subprocess.run([str(sslyze()), "-W", "ignore", "-c", RUN, "--mozilla_config=intermediate", "--slow_connection", f"--certinfo_ca_file={settings.credentials / 'edge-ca.pem'}",
                               *_client(settings, listener, Path(folder)), f"localhost:{port}"], capture_output=True, text=True, timeout=600, check=False)
    found = re.findall(r"^\s+\* (\w+: .+)$", done.stdout.partition("COMPLIANCE AGAINST")[2], re.MULTILINE)
    if "OK - Compliant" in done.stdout:
        return []
    return found or [f"not scanned: {(done.stdout + done.stderr)[-2000:]}"]


def _client(settings: Settings, listener: Listener, folder: Path) -> list[str]:
    """A certificate the listener hears: without one a scan of TLS 1.3 ends before it begins."""
    if not listener.zone:
        return []
    key, request = make_request("tls-check")
    authority = AuthorityClient(settings.home)
    issued = authority.agent(request, 1, "tls-check", life_s=3600) if listener.zone == EDGE_ZONE else authority.client(request, listener.zone, "tls-check", life_s=3600)
    (folder / "chain.pem").write_bytes(issued.chain)
    write_secret(folder / "key.pem", key_pem(key))
    return [f"--cert={folder / 'chain.pem'}", f"--key={folder / 'key.pem'}"]


@contextmanager
def _as_it_is(port: int) -> Iterator[int]:
    yield port


def report(settings: Settings) -> int:
    """Scan, print, write; 1 when anything was found."""
    rows: list[dict[str, Any]] = []
    for listener in listeners(settings):
        everything = scan(settings, listener)
        explained = {f: why for f in everything for (name, begins), why in EXPLAINED.items() if name == listener.name and f.startswith(begins)}
        findings = [f for f in everything if f not in explained]
        notes = findings + [f"explained: {f} {why}" for f, why in explained.items()]
        rows.append({"id": f"tls.{listener.name}", "value": len(findings), "unit": "findings", "goal": 0, "ok": not findings, "note": "; ".join(notes), "quick": False})
        print(f"{listener.name:<12} {'compliant' if not everything else 'no finding but what is explained' if not findings else 'FINDINGS'}")
        for note in notes:
            print(f"    {note}", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1))
    return 0 if all(row["ok"] for row in rows) else 1


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.tls_check", description=__doc__)
    parser.add_argument("--home", type=Path, help="a running installation")
    args = parser.parse_args()
    if args.home is not None:
        return report(load(args.home))
    home = ROOT / "build" / "tls-check"
    shutil.rmtree(home, ignore_errors=True)
    with Stack(home, only=("ca", "nats", "store", "control", "gateway", "portal")) as stack:
        AuthorityClient(stack.settings.home).status()
        return report(stack.settings)


if __name__ == "__main__":
    sys.exit(main())
