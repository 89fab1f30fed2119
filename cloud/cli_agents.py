"""`kang agent invite` and `kang pki`: what an administrator does about agents' certificates at the terminal.

Must not know: how certificates are made.
"""

from __future__ import annotations

import argparse
import getpass
import io

import segno

from cloud.core.settings import load
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.agents_view import invitation_text
from cloud.ledger import open_ledger
from cloud.security.authority import AuthorityClient
from cloud.security.certificates import ZONES


def invite(args: argparse.Namespace) -> int:
    """Print a one-time invitation as text and QR code."""
    settings = load(args.home)
    ledger = open_ledger(settings.effective_ledger_url)
    try:
        with AuthorityClient(settings.home, spawn=True) as authority:
            anchor = str(authority.status()["anchor_fingerprint"])
        token, found = AgentService(ledger).invite(args.agent, args.project, uplink=args.uplink, hardware_id=args.hardware, by="kang agent invite")
    finally:
        ledger.close()
    text = invitation_text(f"https://{settings.reached_at}:{settings.enrolment_port}", token, anchor)
    drawn = io.StringIO()
    segno.make(text, error="m").terminal(out=drawn, compact=True)
    print(f"{drawn.getvalue()}\n{text}\n")
    print(f"{found.agent_id}: 24 小时内有效，只能用一次 · valid for 24 hours, works once")
    return 0


def pki_root(args: argparse.Namespace) -> int:
    """Print the root's passphrase, once; it leaves this machine with you."""
    with AuthorityClient(load(args.home).home, spawn=True) as authority:
        passphrase = authority.ask("take_root_offline")["passphrase"]
    print(f"{passphrase}\n请离线保管；它不再留在本机，更换各区证书时需要它。\nKeep it offline; it is no longer on this machine and is needed to renew a zone's CA.")
    return 0


def pki_show(args: argparse.Namespace) -> int:
    """Root fingerprint, ends of the zones' CAs."""
    with AuthorityClient(load(args.home).home, spawn=True) as authority:
        status = authority.status()
    print(f"root {status['root_fingerprint']}  offline {'yes' if status['root_offline'] else 'no: run kang pki root'}  old CA {'in use' if status['legacy'] else 'none'}")
    for zone, facts in status["zones"].items():
        print(f"{zone:<9} serial {facts['serial']}  until {facts['not_after_ms']} ms")
    return 0


def pki_zone(args: argparse.Namespace) -> int:
    """A new CA for a zone, with the root's passphrase."""
    with AuthorityClient(load(args.home).home, spawn=True) as authority:
        authority.ask("renew_zone", zone=args.zone, passphrase=getpass.getpass("root passphrase / 根口令: "))
    print(f"{args.zone}: 已换发 · renewed; restart kang")
    return 0


def pki_retire(args: argparse.Namespace) -> int:
    """Forget the CA of an installation from before zones had intermediates."""
    with AuthorityClient(load(args.home).home, spawn=True) as authority:
        authority.ask("retire_legacy")
    print("已停用旧 CA，请重启 kang · the old CA is retired; restart kang")
    return 0


def register(calls: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    agent = calls.add_parser("agent", help="agents' identities").add_subparsers(required=True, metavar="COMMAND")
    call = agent.add_parser("invite", help="a one-time enrolment token with QR code")
    call.add_argument("agent")
    call.add_argument("--project", type=int, required=True)
    call.add_argument("--uplink", choices=("grpc", "nats"), default="grpc")
    call.add_argument("--hardware", default="", help="only this hardware id may use it")
    call.set_defaults(run=invite)
    pki = calls.add_parser("pki", help="the installation's certificate authority").add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (("root", pki_root, "print the root's passphrase once and remove it from this machine"), ("show", pki_show, "root fingerprint, ends of the zones' CAs"),
                            ("retire-old", pki_retire, "refuse what the CA of an older installation signed")):
        pki.add_parser(name, help=text).set_defaults(run=run)
    call = pki.add_parser("zone", help="a new CA for a zone")
    call.add_argument("zone", choices=ZONES)
    call.set_defaults(run=pki_zone)
