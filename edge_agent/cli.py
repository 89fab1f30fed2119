"""`kang-edge`: run the agent, make its keys, test a device template against its samples and a live device.

Must not know: how any of it is done.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from protos.errors import KangError
from protos.suites import Suite, self_test


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="kang-edge", description="Kang edge agent / 炕采集代理")
    calls = parser.add_subparsers(dest="call", required=True)
    run = calls.add_parser("run", help="run the agent / 运行")
    run.add_argument("--site", type=Path, required=True)
    run.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    test = calls.add_parser("test-device", help="decode a template's samples, and read a live device / 测试设备模板")
    test.add_argument("template")
    test.add_argument("--site", type=Path)
    test.add_argument("--device", type=int)
    make = calls.add_parser("keygen", help="make the keys of this box / 生成密钥")
    make.add_argument("directory", type=Path)
    _suite_argument(make)
    enrol = calls.add_parser("enrol", help="make keys here and be admitted by an invitation / 凭注册码接入")
    enrol.add_argument("url")
    enrol.add_argument("token")
    enrol.add_argument("fingerprint")
    enrol.add_argument("--directory", type=Path, default=Path("credentials"), help="empty directory for keys and certificate")
    _suite_argument(enrol)
    notes = calls.add_parser("notes", help="messages and questions between site and platform / 人机对话")
    notes.add_argument("--site", type=Path, required=True)
    notes.add_argument("--by", default=os.environ.get("USER", ""), help="who reads, answers or writes / 姓名")
    kind = notes.add_mutually_exclusive_group()
    kind.add_argument("--read", metavar="ID")
    kind.add_argument("--answer", nargs=2, metavar=("ID", "TEXT"))
    kind.add_argument("--write", metavar="TEXT")
    kind.add_argument("--ask", metavar="TEXT")
    arguments = parser.parse_args(argv)
    try:
        if arguments.call == "run":
            return _run(arguments.site, arguments.log_level)
        if arguments.call == "enrol":
            from edge_agent.enrolment import enrol as enrol_box
            site = asyncio.run(enrol_box(arguments.url, arguments.token, arguments.fingerprint, arguments.directory, Suite.named(arguments.suite)))
            print(f"{arguments.directory}: {site['agent_id']} (project / 项目 {site['project_id']}); site.enrolled.yaml -> site.yaml")
            return 0
        if arguments.call == "keygen":
            from edge_agent.keygen import make as make_keys
            print(make_keys(arguments.directory, Suite.named(arguments.suite)))
            return 0
        if arguments.call == "notes":
            return _notes(arguments)
        return _test(arguments.template, arguments.site, arguments.device)
    except KangError as error:
        language = "zh" if os.environ.get("LANG", "").startswith("zh") else "en"
        print(f"{error.code}: {error.message(language)}", file=sys.stderr)
        return 2


def _suite_argument(call: argparse.ArgumentParser) -> None:
    call.add_argument("--suite", choices=["std", "sm"], type=str.lower, default="std", help="algorithms of the keys, as in site.yaml: std, or sm (SM2, SM3, SM4) / 算法套件，sm 为国密")


def _run(site_file: Path, level: str) -> int:
    from edge_agent import logs
    from edge_agent.agent import Agent
    from edge_agent.config import load_credentials, load_site
    from edge_agent.errors import SiteError
    logs.configure(level)
    site = load_site(site_file)
    self_test(sm_needed=site.suite is Suite.SM)
    credentials = load_credentials(site.credentials_dir)
    site.state_dir.mkdir(parents=True, exist_ok=True)
    held = (site.state_dir / "agent.lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SiteError(field="state_dir", problem="another kang-edge already runs on this directory; two agents must never share a spool") from None

    async def live() -> None:
        agent = Agent(site, credentials)
        work = asyncio.create_task(agent.run())
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, work.cancel)
        server = None
        if site.metrics_port:
            from edge_agent import metrics
            server = await metrics.serve(site.metrics_port, lambda: figures(agent.counts, agent.link.counts, {
                "spool_batches": agent.spool.batches, "spool_readings": agent.spool.readings, "spool_bytes": agent.spool.stored_bytes, "uplink": agent.link.up,
                "refused_readings": agent.spool.refused.total(), "dropped_commands": agent.desk.dropped.total()}))
        try:
            await work
        except asyncio.CancelledError:
            pass
        finally:
            if server is not None:
                server.close()

    asyncio.run(live())
    return 0


def _notes(arguments: argparse.Namespace) -> int:
    from edge_agent.config import load_site
    from edge_agent.dialogue import Dialogue
    book = Dialogue(load_site(arguments.site).state_dir / "dialogue.db")
    try:
        if arguments.read:
            book.read(arguments.read, arguments.by)
        elif arguments.answer:
            identifier, text = arguments.answer
            book.answer(identifier, text, arguments.by)
        elif arguments.write or arguments.ask:
            print(book.write(arguments.write or arguments.ask, arguments.by, question=bool(arguments.ask)))
        else:
            for row in book.rows():
                print(json.dumps({k: row[k] for k in ("id", "mine", "at_ms", "author", "text", "question", "choices", "state", "by", "answer")}, ensure_ascii=False))
    finally:
        book.close()
    return 0


def figures(*sources: Mapping[str, float]) -> dict[str, float]:
    """Counters under names Prometheus accepts."""
    return {"".join(c if c.isalnum() else "_" for c in name): float(value) for source in sources for name, value in source.items()}


def _test(name: str, site_file: Path | None, device: int | None) -> int:
    from edge_agent import templates, trial
    template = templates.load(Path(name)) if name.endswith((".yaml", ".yml")) else templates.builtin(name)
    rows = trial.samples(template)
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    ok = all(row["ok"] for row in rows)
    if site_file is not None and device is not None:
        live = asyncio.run(trial.read(site_file, device))
        for row in live:
            print(json.dumps(row, ensure_ascii=False))
        ok = ok and all(row["ok"] for row in live)
    print(f"{template.name}: {len(rows)} samples, {'ok' if ok else 'WRONG'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
