"""Virtual environments for peers under build/peers, from hashed requirement files. A peer that cannot be had is an error with its message. Must not know: what peers do."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
HOME = Path("build/peers")
#: Peer -> (script, requirement file or None for the platform's own environment).
KNOWN: dict[str, tuple[str, str | None]] = {
    "kang": ("kang", None), "pulp_highs": ("pulp_highs", None), "pulp_cbc": ("pulp_cbc", None), "scipy_milp": ("scipy_milp", None),
    "linopy": ("linopy_highs", "linopy"), "pypsa": ("pypsa_highs", "pypsa"), "oemof": ("oemof_solph", "oemof"),
    "fmpy": ("fmpy_drive", "fmpy"), "emhass": ("emhass_house", "emhass"), "flexmeasures": ("flexmeasures_device", "flexmeasures"), "opendsm": ("opendsm_hourly", "opendsm"),
}


class PeerError(RuntimeError):
    """A peer could not be had or failed; the message is its own."""


def python(requirements: str | None) -> Path:
    """The interpreter of an environment, made when it is missing or its requirement file changed.

    Raises:
        PeerError: it cannot be made.
    """
    if requirements is None:
        return Path(sys.executable)
    wanted = PEERS / f"{requirements}.txt"
    home = HOME / f"env-{requirements}"
    found, mark = home / "bin" / "python", home / ".made-of"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if found.exists() and mark.exists() and mark.read_text() == digest:
        return found
    print(f"  making an environment for {requirements} in {home}", flush=True)
    for command in ([sys.executable, "-m", "venv", "--clear", str(home)], [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(wanted)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"{requirements} cannot be installed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    mark.write_text(digest)
    return found


def ask(peer: str, request: dict[str, Any], *, seconds: float = 300.0, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a peer's script once.

    Raises:
        PeerError: it failed, or took too long.
    """
    script, requirements = KNOWN[peer]
    interpreter = python(requirements)
    command = [str(interpreter), "-m", f"benchmarks.optimizers.peers.{script}"] if requirements is None else [str(interpreter.absolute()), str(PEERS / f"{script}.py")]
    env = {**os.environ, "PYTHONPATH": ".", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **(environment or {})}
    if requirements is not None:
        env.pop("PYTHONPATH")
    try:
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False, timeout=seconds, env=env)
    except subprocess.TimeoutExpired as late:
        raise PeerError(f"no answer within {seconds:g} s") from late
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise PeerError((done.stderr.strip() or "no answer").splitlines()[-1][:200])
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def rounds(peers: list[str], request: dict[str, Any], count: int, *, seconds: float = 300.0) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Interleaved: round r runs every peer once. A peer that failed once is left out after, with its message."""
    answers: dict[str, list[dict[str, Any]]] = {p: [] for p in peers}
    failed: dict[str, str] = {}
    for _ in range(count):
        for peer in peers:
            if peer in failed:
                continue
            try:
                answers[peer].append(ask(peer, request, seconds=seconds))
            except PeerError as error:
                failed[peer] = str(error)
    return answers, failed


def ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], what: str = "total_s") -> float:
    """Median over rounds of theirs / ours in the same round."""
    return float(statistics.median(t[what] / o[what] for o, t in zip(ours, theirs, strict=True)))
