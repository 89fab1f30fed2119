"""`kang`: run the platform, admit edge agents, show a demo. Texts follow the reader's language.

Must not know: how anything works; it calls `cloud.installation`, the functions' services and, for the demo, the plants.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import yaml

from cloud import __version__, cli_agents, cli_trust
from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.settings import Settings, load, ray_directory
from cloud.core.supervision import NotReadyError, Supervisor, port_open
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.functions.system.organisations import OrganisationService
from cloud.functions.system.sessions import SessionService
from cloud.installation import admit, children, own_ports, prepare
from cloud.ledger import open_ledger
from cloud.security.operations import Role
from cloud.start import bench_arguments
from protos.errors import KangError

DEFAULT_HOME = Path(os.environ.get("KANG_HOME", "~/.local/share/kang")).expanduser()


def _zh() -> bool:
    return (os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or "").startswith("zh")


def say(zh: str, en: str) -> None:
    """One line to the person at the terminal."""
    print(zh if _zh() else en, flush=True)


def up(args: argparse.Namespace) -> int:
    """Run the platform in the foreground until Ctrl-C."""
    if not _claim(args.home):
        return 1
    settings: Settings = load(args.home, **({"portal_port": args.port} if args.port else {}))
    marker = settings.home / "signed-in-once"
    prepare(settings)
    with_codes = _codes(settings.effective_ledger_url) if args.sign_in or not marker.exists() else []
    marker.touch()
    return run(settings, lambda _: None, lambda: _greet(settings.portal_port, with_codes))


def _claim(home: Path) -> bool:
    """Take the home for this process until it ends; False (and said) when another one runs in it."""
    os.umask(0o077)
    home.mkdir(parents=True, exist_ok=True)
    held = (home / "kang.lock").open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say(f"{home} 中已有一个实例在运行，未做任何更改。请先停止它（Ctrl-C），或用 --home 指定另一目录。",
            f"An instance already runs in {home}; nothing was changed. Stop it first (Ctrl-C), or choose another directory with --home.")
        return False
    _HELD.append(held)
    return True


_HELD: list[IO[str]] = []


def run(settings: Settings, after: Callable[[Supervisor], None], ready: Callable[[], None]) -> int:
    """Start every process in order, then whatever `after` starts, then keep all of them alive."""
    supervisor = Supervisor(settings.home / "logs", settings.home)  # the home is ours (`_claim`): what is left alive is nobody's

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        taken = [f"{name} {port}" for name, port in own_ports(settings).items() if port_open(port)]
        if taken:
            say(f"端口已被占用：{', '.join(taken)}。请停止另一实例，或在 {settings.home / 'kang.toml'} 中改端口。",
                f"Ports are in use: {', '.join(taken)}. Stop the other instance, or change the ports in {settings.home / 'kang.toml'}.")
            return 1
        listed = children(settings)
        for child in listed:
            supervisor.start(child, wait=child.name in ("ca", "nats", "store", "gateway", "ray"))
        supervisor.wait("portal")
        after(supervisor)
        ready()
        while True:
            supervisor.tick()
            time.sleep(0.1)
    except KeyboardInterrupt:
        say("正在停止…", "Stopping ...")
    except NotReadyError as error:
        say(f"启动失败：{error}", f"Could not start: {error}")
        return 1
    finally:
        supervisor.stop_all()
        shutil.rmtree(ray_directory(settings).parent, ignore_errors=True)
    return 0


ROLES = (("operator", "值班员", "Operator"), ("engineer", "工程师", "Engineer"), ("dispatcher", "调度员", "Dispatcher"), ("system_admin", "系统管理员", "System admin"),
         ("security_admin", "安全管理员", "Security admin"), ("auditor", "审计管理员", "Audit admin"))


def _codes(ledger_url: str, *, valid_s: int = 900) -> list[tuple[str, str, str]]:
    """One one-time sign-in per role: (zh, en, code). Who exists already keeps roles and scope; who is locked gets none."""
    ledger = open_ledger(ledger_url)
    sessions = SessionService(ledger)
    found = []
    for role, zh, en in ROLES:
        if not sessions.knows(role):
            sessions.register_user(role, zh if _zh() else en, [Role(role)])
        code = sessions.code_if_welcome(role, valid_s=valid_s)
        if code:
            found.append((zh, en, code))
    ledger.close()
    return found


def _greet(port: int, codes: Sequence[tuple[str, str, str]], minutes: int = 15) -> None:
    say(f"\n炕 已就绪：http://localhost:{port}", f"\nKang is ready: http://localhost:{port}")
    if codes:
        _links(port, codes, minutes)
    say("按 Ctrl-C 停止。", "Press Ctrl-C to stop.")


def _links(port: int, codes: Sequence[tuple[str, str, str]], minutes: int = 15) -> None:
    say(f"一次性登录链接（{minutes} 分钟内有效，每个只能用一次）：", f"One-time sign-in links (valid for {minutes} minutes, each works once):")
    for zh, en, code in codes:
        print(f"  {zh if _zh() else en:<12} http://localhost:{port}/signin?code={code}", flush=True)


def sign_in(args: argparse.Namespace) -> int:
    """Print new one-time sign-in links."""
    settings = load(args.home)
    _links(settings.portal_port, _codes(settings.effective_ledger_url))
    return 0


def admit_agent(args: argparse.Namespace) -> int:
    """Admit an edge agent: certificate and platform keys are written beside the request, to be carried back to the device."""
    settings = load(args.home)
    admission = admit(settings, args.request.read_bytes(), agent_id=args.agent, project_id=args.project, uplink=args.uplink)
    target = args.out or args.request.parent
    for name, data in admission.files.items():
        (target / name).write_bytes(data)
    say(f"已接入 {args.agent}（分区 {admission.partition}），文件在 {target}", f"Admitted {args.agent} (partition {admission.partition}); files are in {target}")
    return 0


def template(args: argparse.Namespace) -> int:
    """Register device templates from YAML files."""
    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    service = DeviceService(ledger)
    for file in args.files:
        key = service.register_template(yaml.safe_load(file.read_text()))
        say(f"模板 {key} 已登记", f"Template {key} registered")
    ledger.close()
    return 0


def project(args: argparse.Namespace) -> int:
    """Register or update a project; prints its id."""
    settings = load(args.home)
    prepare(settings)
    ledger = open_ledger(settings.effective_ledger_url)
    service = DeviceService(ledger)
    service.register_region(args.region, args.region, args.region)
    made = service.register_project(NewProject(args.code, args.name_zh, args.name_en, args.region, args.latitude, args.longitude, args.area, args.kind, dedicated_host=args.own_host))
    ledger.close()
    print(made)
    return 0


def device(args: argparse.Namespace) -> int:
    """Register or update a device; prints the id that belongs into site.yaml."""
    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    made = DeviceService(ledger).register_device(args.project, NewDevice(
        args.code, args.name_zh, args.name_en, args.agent, args.template, location=args.location, rated_kw=args.rated_kw, absent_points=tuple(args.absent)))
    ledger.close()
    print(made)
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revoke an agent: its certificate, streams, messages and NATS user are refused within a second."""
    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    AgentService(ledger).revoke(args.agent, by="kang revoke", reason=args.reason)
    ledger.close()
    say(f"已吊销 {args.agent}", f"Revoked {args.agent}")
    return 0


def person(args: argparse.Namespace) -> int:
    """Register or update a person and print a one-time sign-in link."""
    settings = load(args.home)
    prepare(settings)
    ledger = open_ledger(settings.effective_ledger_url)
    sessions = SessionService(ledger)
    if args.disable:
        sessions.disable_user(args.name)
        say(f"已停用 {args.name}", f"Disabled {args.name}")
    else:
        organisation = None if not args.organisation else OrganisationService(sessions, now_ms).by_code(args.organisation)
        sessions.register_user(args.name, args.display or args.name, [Role(r) for r in args.role], project_ids=args.project or None, device_ids=args.device or None,
                               organisation_id=organisation, region_codes=args.region or None, by="kang person")
        print(f"http://localhost:{settings.portal_port}/signin?code={sessions.issue_code(args.name)}")
    ledger.close()
    return 0


def demo(args: argparse.Namespace) -> int:
    """Run the platform with live simulated plants that speak real field protocols."""
    from benchmarks.plants import demo as plants

    if not _claim(args.home):
        return 1
    settings = load(args.home, **({"portal_port": args.port} if args.port else {}))
    prepare(settings)
    (settings.home / "demo").touch()
    prepared = plants.register(settings, admit, backfill_days=args.days)
    prepare(settings)
    codes = _codes(settings.effective_ledger_url, valid_s=3600)
    return run(settings, lambda supervisor: plants.start(settings, supervisor, prepared), lambda: _greet(settings.portal_port, codes, 60))


def _registrations(calls: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    call = calls.add_parser("project", help="register or update a project")
    _named(call)
    call.add_argument("--region", default="default")
    call.add_argument("--kind", default="boiler_storage", help="boiler_storage, heat_pump, metered_district, decentralised")
    call.add_argument("--area", type=float, required=True, help="heated area, m2")
    call.add_argument("--latitude", type=float, required=True, help="degrees, WGS-84")
    call.add_argument("--longitude", type=float, required=True, help="degrees, WGS-84")
    call.add_argument("--own-host", action="store_true", help="a project host of its own")
    call.set_defaults(run=project)
    call = calls.add_parser("device", help="register or update a device")
    _named(call)
    call.add_argument("--project", type=int, required=True)
    call.add_argument("--agent", required=True, help="agent that reads it")
    call.add_argument("--template", required=True, help="key of a registered template; the newest version is taken")
    call.add_argument("--location", default="")
    call.add_argument("--rated-kw", type=float, default=0.0)
    call.add_argument("--absent", nargs="*", default=[], help="points of the template this device lacks")
    call.set_defaults(run=device)
    call = calls.add_parser("revoke", help="revoke an edge agent")
    call.add_argument("agent")
    call.add_argument("--reason", default="", help="kept with the revocation")
    call.set_defaults(run=revoke)
    cli_agents.register(calls)
    call = calls.add_parser("person", help="register a person and print a one-time sign-in link")
    call.add_argument("name")
    call.add_argument("--display", default="", help="name shown on the page")
    call.add_argument("--role", nargs="+", default=["operator"], choices=[str(r) for r in Role])
    call.add_argument("--project", type=int, nargs="*", default=[], help="only these projects")
    call.add_argument("--device", type=int, nargs="*", default=[], help="only these devices (residents)")
    call.add_argument("--region", nargs="*", default=[], help="only projects of these regions and below")
    call.add_argument("--organisation", default="", help="code of the service provider this person works for; sees what its contracts name")
    call.add_argument("--disable", action="store_true", help="refuse this person from now on and end the sessions")
    call.set_defaults(run=person)


def _named(call: argparse.ArgumentParser) -> None:
    call.add_argument("--code", required=True, help="1-60 letters, digits, '-', '_' or '.'")
    call.add_argument("--name-zh", required=True)
    call.add_argument("--name-en", required=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `kang`."""
    parser = argparse.ArgumentParser(prog="kang", description="Kang 炕: operation service platform for electric heating (DL/T 2690.7-2023)")
    parser.add_argument("--version", action="version", version=f"kang {__version__}")
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="directory of this installation (KANG_HOME)")
    calls = parser.add_subparsers(required=True, metavar="COMMAND")
    call = calls.add_parser("up", help="run the platform")
    call.add_argument("--port", type=int, default=0, help="portal port")
    call.add_argument("--sign-in", action="store_true", help="print new one-time sign-in links")
    call.set_defaults(run=up)
    call = calls.add_parser("demo", help="run the platform with live simulated plants")
    call.add_argument("--port", type=int, default=0, help="portal port")
    call.add_argument("--days", type=float, default=7.0, help="days of history to backfill")
    call.set_defaults(run=demo)
    call = calls.add_parser("bench", help="benchmark the optimizers against named peers")
    bench_arguments(call)
    call = calls.add_parser("sign-in", help="print one-time sign-in links")
    call.set_defaults(run=sign_in)
    call = calls.add_parser("admit", help="admit an edge agent from the request file kang-edge keygen made")
    call.add_argument("request", type=Path)
    call.add_argument("--agent", required=True, help="agent id")
    call.add_argument("--project", type=int, required=True, help="project id")
    call.add_argument("--uplink", choices=("grpc", "nats"), default="grpc")
    call.add_argument("--out", type=Path, help="where to write the device's files (default: beside the request)")
    call.set_defaults(run=admit_agent)
    call = calls.add_parser("template", help="register device templates from YAML files")
    call.add_argument("files", type=Path, nargs="+")
    call.set_defaults(run=template)
    _registrations(calls)
    cli_trust.register(calls)
    args = parser.parse_args(argv)
    configure("kang", logging.WARNING)
    try:
        sys.exit(args.run(args))
    except KangError as error:
        print(f"{error.code}: {error.message('zh' if _zh() else 'en')}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
