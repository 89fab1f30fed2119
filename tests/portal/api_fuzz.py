"""schemathesis over our OpenAPI with security declared: `make api-fuzz` (200 examples an operation), a small round in the tests.

A real portal over the fake ports and a real ledger, served by uvicorn; one round per role. Findings fail with schemathesis' own report.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import uvicorn

from benchmarks.stack import free_ports
from cloud.ledger import migrate, open_ledger
from tests.support.site import build, furnish

#: The live stream does not end, so no example of it would; the others would sign the fuzzer itself out.
LEFT_OUT = ("/api/v1/live", "/api/v1/session", "/api/v1/me/sessions/{session_id}", "/api/v1/sessions/{session_id}")


def fuzz(role: str, examples: int, folder: Path, *, include: str = "") -> subprocess.CompletedProcess[str]:
    """One round as `role`."""
    ledger = open_ledger(f"sqlite:///{folder / f'{role}.db'}")
    migrate(ledger)
    site = build(ledger)
    furnish(site)
    port = free_ports(1)[0]
    server = uvicorn.Server(uvicorn.Config(site.app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url) as client:
            answer = client.post("/api/v1/session", json={"code": site.sessions.issue_code(role, valid_s=86_400)})
            answer.raise_for_status()
            # schemathesis takes the first declared cookie it has a value for as the one that counts, so both are given; one of them is nobody's
            cookies = {"kang_session": "nobody", "kang_home": "nobody"} | dict(client.cookies.items())
            cookie, csrf = "; ".join(f"{k}={v}" for k, v in cookies.items()), answer.json()["csrf"]
        config = folder / "schemathesis.toml"
        # what is too large is refused as such, whatever else may be wrong with it
        config.write_text('[checks]\nnegative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]\n')
        chosen = ["--include-path-regex", include] if include else []
        left = [part for path in LEFT_OUT for part in ("--exclude-path", path)]
        return subprocess.run(
            [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config), "run", f"{url}/openapi.json", "-H", f"Cookie: {cookie}", "-H", f"X-Kang-CSRF: {csrf}",
             "--max-examples", str(examples), "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--seed", "7", "--workers", "1", "--no-color", *left, *chosen],
            capture_output=True, text=True, timeout=3600, check=False)
    finally:
        server.should_exit = True
        thread.join(10)
        ledger.close()


def main() -> int:
    """Every role, 200 examples."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--roles", nargs="*", default=["engineer", "security_admin", "system_admin", "audit_admin", "resident"])
    parser.add_argument("--include", default="")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for role in args.roles:
            done = fuzz(role, args.examples, Path(folder), include=args.include)
            print(f"== {role}\n{done.stdout}{done.stderr[-2000:]}", flush=True)
            failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
