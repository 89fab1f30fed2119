"""`kang audit`, `kang client` and `kang attack`: what an administrator or an outside reviewer runs about trust.

Must not know: how anything works.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sqlalchemy import select

from cloud.core.clock import now_ms
from cloud.core.settings import load
from cloud.ledger import open_ledger
from cloud.security import keys
from cloud.security.audit import OperationLog, document_of
from cloud.security.audit_verify import checkpoints_of, verify


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


def register(calls: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands."""
    audit = calls.add_parser("audit", help="check or export the audit log").add_subparsers(required=True, metavar="WHAT")
    call = audit.add_parser("verify", help="name the first altered, missing, reordered, cut or rewritten record")
    call.add_argument("--checkpoints", type=Path, nargs="*", default=[], help="checkpoints kept elsewhere (kang-edge's audit-checkpoints.jsonl, a backup)")
    call.set_defaults(run=audit_verify)
    call = audit.add_parser("export", help="write the log as JSON lines")
    call.add_argument("--out", type=Path, required=True)
    call.set_defaults(run=audit_export)
