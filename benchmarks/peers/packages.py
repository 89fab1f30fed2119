"""Where a peer's program is: on the machine, or unpacked from its Debian package into build/peers (fetched once with apt-get download).

Must not know: what is measured.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HOME = Path("build/peers/debs")


class PeerMissingError(RuntimeError):
    """A peer cannot be had here; the message says why."""


def program(name: str, package: str, *places: str) -> str:
    """Path of a program, fetching its package when needed.

    Raises:
        PeerMissingError: neither installed nor to be had from apt.
    """
    for place in places:
        if Path(place).exists():
            return place
    found = shutil.which(name)
    if found:
        return found
    unpacked = HOME / "usr" / "bin" / name
    if not unpacked.exists():
        _fetch(package)
    if not unpacked.exists():
        raise PeerMissingError(f"{name} is not in package {package}")
    return str(unpacked.resolve())


def _fetch(package: str) -> None:
    HOME.parent.mkdir(parents=True, exist_ok=True)
    if not list(HOME.parent.glob(f"{package}_*.deb")):
        if shutil.which("apt-get") is None:
            raise PeerMissingError(f"{package} is not installed and there is no apt-get")
        got = subprocess.run(["apt-get", "download", package], cwd=HOME.parent, capture_output=True, text=True, timeout=180, check=False)
        if got.returncode:
            raise PeerMissingError(f"apt-get download {package}: {(got.stderr.strip().splitlines() or ['failed'])[-1][:160]}")
    for deb in HOME.parent.glob(f"{package}_*.deb"):
        subprocess.run(["dpkg", "-x", str(deb), str(HOME)], check=True)
