"""The composition root of the portal process: real parts behind the functions' ports.

The only place that knows everything.
"""

from __future__ import annotations

import argparse
import asyncio
from importlib import resources
from pathlib import Path

import uvicorn
from nats.aio.msg import Msg

from cloud import __version__
from cloud.bus.connection import connect
from cloud.control.client import ControlClient
from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.settings import load
from cloud.functions.devices.agents_identities import Identities
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.economic_operation.effect import EconomicEffects
from cloud.functions.economic_operation.service import EconomicService
from cloud.functions.interfaces.answers import IdempotentAnswers
from cloud.functions.interfaces.clients import ClientService
from cloud.functions.interfaces.openadr import peer
from cloud.functions.interfaces.openadr.ven import Ven, keep
from cloud.functions.remote_control.batches import Limits
from cloud.functions.services import Services, regions_of
from cloud.functions.system.audit_desk import AuditDesk
from cloud.functions.system.dialogue import DialogueService
from cloud.functions.system.journal import OperationJournal
from cloud.functions.system.oidc import Provider
from cloud.functions.system.oidc import read as read_provider
from cloud.functions.system.people import people
from cloud.functions.system.sessions import SessionService
from cloud.historian.client import ClickHouse
from cloud.historian.flow import FlowLog, FlowReader, FlowRetention
from cloud.historian.reader import Reader
from cloud.historian.writer import Writer
from cloud.ledger import open_ledger
from cloud.portal import about_grpc, dispatch_grpc, open_grpc, own_alarms, retention
from cloud.portal.app import create_app, operation_table
from cloud.portal.audit_watch import AuditWatch
from cloud.portal.feed import Feed
from cloud.portal.mutual import listen
from cloud.portal.own_alarms import OwnAlarms
from cloud.portal.plan_watch import PlanWatch
from cloud.portal.releases import Releaser
from cloud.security import keys
from cloud.security.authority import AuthorityClient, certifier


async def serve(home: Path) -> None:
    """Serve the portal until SIGTERM."""
    settings = load(home)
    client = await connect(settings.effective_nats_url, settings.credentials, "portal")
    ledger = open_ledger(settings.effective_ledger_url)
    directory = LedgerDirectory(ledger)
    store = ClickHouse(settings, threads=4, name="portal")
    feed = Feed(client, directory, heartbeat_s=settings.heartbeat_s)
    await feed.start()
    static = Path(str(resources.files("cloud.portal"))) / "static"
    releaser = Releaser(client, directory, settings)
    journal = OperationJournal(ledger, watch=True, late=settings.home / "audit-late.jsonl")
    alarms = OwnAlarms(Writer(store), Reader(store, settings.timezone))

    async def told(message: Msg) -> None:
        alarms.hear(message.data)

    await client.subscribe(own_alarms.SUBJECT, cb=told)
    watching = asyncio.create_task(AuditWatch(journal, alarms, feed).run(), name="audit watch")
    planned = asyncio.create_task(PlanWatch(EconomicService(ledger, now_ms), alarms, now_ms).run(), name="plan watch")
    flows = FlowLog(store, days=settings.network_days)
    recording = asyncio.create_task(flows.run(), name="flows")
    expiring = asyncio.create_task(retention.keep(FlowRetention(store, settings.network_days), ledger), name="network retention")
    sessions = SessionService(ledger, password_days=settings.password_days, regions_of=regions_of(directory))
    services = Services(
        directory=directory, historian=Reader(store, settings.timezone, releaser.release), commands=ControlClient(client), live=feed, sessions=sessions,
        journal=journal, clients=ClientService(ledger, keys.signing_pem(settings.credentials / "api-token.ed25519"), operation_table), answers=IdempotentAnswers(ledger),
        audit=AuditDesk(ledger, (settings.credentials / "audit.pub").read_bytes(), settings.home / "audit", settings.home / "control.sqlite"), flows=FlowReader(store, days=settings.network_days), note=flows.note, dialogue=DialogueService(ledger),
        identities=Identities(AgentService(ledger), f"https://{settings.reached_at}:{settings.enrolment_port}", lambda: str(AuthorityClient(settings.home).status()["anchor_fingerprint"])),
        effects=EconomicEffects(EconomicService(ledger, now_ms), directory, Reader(store, settings.timezone), now_ms), limits=Limits(settings.batch_devices, float(settings.batch_kw)),
        certify=certifier(settings), provider=Provider(found, sessions) if (found := read_provider(settings.credentials / "oidc.json")) is not None else None,
        people=people(sessions, keys.shared_secret(settings.credentials / "people.secret").encode(), now_ms), secure=bool(settings.portal_https), static=static if static.exists() else None, version=__version__, timezone=settings.timezone, demo=(settings.home / "demo").exists())
    app = create_app(services)
    app.state.batches.resume()
    above = peer.read(settings.credentials / "openadr.json")
    asked = None if above is None else asyncio.create_task(keep(Ven(peer.Peer(above), ledger, now_ms, directory.projects), above.every_s), name="openadr ven")
    config = uvicorn.Config(app, host=settings.portal_host, port=settings.portal_port, log_config=None, access_log=False, timeout_graceful_shutdown=3, workers=1)
    server = uvicorn.Server(config)
    outside = await listen(app, settings)
    grpc_outside = await open_grpc.listen(app, settings, [dispatch_grpc.serve(app), about_grpc.serve(app)])
    await server.serve()
    if outside is not None:
        outside.close()
    if grpc_outside is not None:
        await grpc_outside.stop(1)
    if asked is not None:
        asked.cancel()
    watching.cancel()
    planned.cancel()
    recording.cancel()
    expiring.cancel()
    await app.state.batches.close()
    await flows.last()
    await feed.close()
    await client.close()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.app --home DIR`: the portal process."""
    parser = argparse.ArgumentParser(prog="kang-portal")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("portal")
    asyncio.run(serve(args.home))


if __name__ == "__main__":
    main()
