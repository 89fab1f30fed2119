"""`kang audit`, `kang client` and `kang attack`: what an administrator or an outside reviewer runs about trust.

Must not know: how anything works.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from cloud.core.clock import now_ms
from cloud.core.settings import load
from cloud.ledger import open_ledger
from cloud.security import keys
from cloud.security.audit import OperationLog, document_of
from cloud.security.audit_verify import checkpoints_of, verify
from cloud.security.authority import certifier


def audit_verify(args: argparse.Namespace) -> int:
    """Check the log; exit code 1 when something is wrong."""
    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    public = keys.signing_key(settings.credentials / "audit.ed25519").public_key()
    known = [point for file in args.checkpoints for point in checkpoints_of(file)]
    report = verify(ledger, public, settings.home / "audit", now_ms=now_ms(), control=settings.home / "control.sqlite", known=known)
    ledger.close()
    print(f"记录 {report.records} 条，命令日志 {report.commands} 条，检查点 {report.checkpoints} 个 · "
          f"{report.records} records, {report.commands} of the command journal, {report.checkpoints} checkpoints")
    if report.cut is not None:
        day = datetime.fromtimestamp(report.cut.at_ms / 1000, UTC).date()
        print(f"第 1 至 {report.cut.n} 条保存期满，已于 {day} 依签名清除 · records 1 to {report.cut.n} were past their retention and were deleted on {day} under a signed cut")
    for finding in report.findings:
        print(f"{finding.kind.upper():<12} {finding.log} #{finding.n}: {finding.zh} · {finding.en}")
    if report.ok:
        print("完整 · whole")
    return 0 if report.ok else 1


def audit_export(args: argparse.Namespace) -> int:
    """Write the log as JSON lines, oldest first."""
    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    with ledger.read() as session, args.out.open("w") as out:
        count = 0
        for row in session.scalars(select(OperationLog).order_by(OperationLog.id).execution_options(yield_per=2000)):
            out.write(json.dumps(document_of(row), ensure_ascii=False) + "\n")
            count += 1
    ledger.close()
    print(f"{count} → {args.out}")
    return 0


def attack(args: argparse.Namespace) -> int:
    """Try what must be refused; exit code 1 when anything was accepted."""
    from cloud.attack import identities, link, outside, prepared, road
    from cloud.attack.door import Door
    from cloud.attack.leavings import Leavings
    from cloud.attack.rows import save, summary

    settings = load(args.home)
    url, made = args.target or f"http://127.0.0.1:{settings.portal_port}", Leavings()
    if args.codes is not None:
        people = prepared.read(args.codes)
        rows = prepared.tried(Door(url, people.code, people.roles, people.outside, people.outside_device))
        said = prepared.left_with(people)
    else:
        rows = []
        try:
            with prepared.local(settings, made) as people:
                rows += prepared.tried(Door(url, people.code, people.roles, people.outside, people.outside_device))
            rows += outside.tried(settings, link.rogue("kang://third/attack"), made)
            zone = settings.credentials / "zone-ca.pem"
            authority = args.zone_ca or next((f for f in (zone, *sorted(settings.credentials.glob("*ca*.pem")), *sorted(settings.credentials.glob("*root*.pem"))) if f.exists()), None)
            if authority is not None:
                rows += link.gateway(f"{settings.gateway_host}:{settings.gateway_port}", authority.read_bytes(), people.agents)
                if len(people.projects) > 1:
                    rows += identities.agent(settings, people.projects[0], people.projects[1], authority.read_bytes(), made)
                    rows += road.tried(settings, people.projects[0], people.projects[1], authority.read_bytes(), made)
            if args.agent is not None:
                rows += link.stolen(f"{settings.gateway_host}:{settings.gateway_port}", (args.agent / "zone-ca.pem").read_bytes(), args.agent, (999, "somebody-else"))
        finally:
            ledger = open_ledger(settings.effective_ledger_url)
            said = made.clear(ledger)
            ledger.close()
    rows += link.envelopes()
    if args.json is not None:
        save(rows, args.json)
    print(summary(rows, every=args.every))
    print(said)
    return 1 if any(not row.refused for row in rows) else 0


def client(args: argparse.Namespace) -> int:
    """Register an external client and print its id and secret."""
    from cloud.functions.interfaces.clients import ClientService
    from cloud.portal.app import operation_table

    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    service = ClientService(ledger, keys.signing_pem(settings.credentials / "api-token.ed25519"), operation_table)
    view, secret = service.register(args.name, args.operation, project_ids=args.project or None, rate=args.rate, burst=args.burst, priority=args.priority, actor="cli")
    made = service.certify(view["id"], args.request.read_bytes(), args.days, certifier(settings, spawn=True), actor="cli") if args.request is not None else None
    ledger.close()
    if made is not None:
        args.request.with_suffix(".pem").write_text(made["certificate"])
        args.request.with_suffix(".roots.pem").write_text(made["roots"])
    print(json.dumps({"client_id": view["id"], "client_secret": secret, **({"sha256": made["sha256"], "not_after_ms": made["not_after_ms"]} if made is not None else {})}))
    return 0


def register(calls: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands."""
    audit = calls.add_parser("audit", help="check or export the audit log").add_subparsers(required=True, metavar="WHAT")
    call = audit.add_parser("verify", help="name the first altered, missing, reordered, cut or rewritten record")
    call.add_argument("--checkpoints", type=Path, nargs="*", default=[], help="checkpoints kept elsewhere (kang-edge's audit-checkpoints.jsonl, a backup)")
    call.set_defaults(run=audit_verify)
    call = audit.add_parser("export", help="write the log as JSON lines")
    call.add_argument("--out", type=Path, required=True)
    call.set_defaults(run=audit_export)
    call = calls.add_parser("attack", help="try everything that must be refused against a running platform")
    call.add_argument("--target", default="", help="address of the portal (default: this installation's)")
    call.add_argument("--codes", type=Path, help="people and their one-time codes as JSON, see docs; default: made in this installation and removed afterwards")
    call.add_argument("--agent", type=Path, help="credentials directory of an agent of one's own, to try in another's name")
    call.add_argument("--zone-ca", type=Path, help="certificate by which the gateway is known")
    call.add_argument("--json", type=Path, help="write every row there")
    call.add_argument("--every", action="store_true", help="print every row, not only what was accepted")
    call.set_defaults(run=attack)
    call = calls.add_parser("client", help="register an external client; prints id and secret")
    call.add_argument("name")
    call.add_argument("--operation", nargs="+", required=True, help="operations in its scope, e.g. monitoring.latest.read")
    call.add_argument("--project", type=int, nargs="*", default=[], help="only these projects")
    call.add_argument("--rate", type=float, default=10.0, help="requests a second")
    call.add_argument("--burst", type=int, default=20)
    call.add_argument("--request", type=Path, help="PKCS#10 request (PEM) of the client's own key: its certificate is signed and written beside it, the client is bound to it")
    call.add_argument("--days", type=int, default=90, help="life of that certificate")
    call.add_argument("--priority", type=int, default=5, help="0 safety and dispatch, 1 control, 2 operators, 3 customers, 5 third parties, 9 batch")
    call.set_defaults(run=client)
