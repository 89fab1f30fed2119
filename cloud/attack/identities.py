"""Knocks with genuine credentials that must not work (any more): other zones', ended, other agents', and one revoked while its stream is open.

An agent made for the attempt in a local installation, revoked at the end. Must not know: the gateway's code.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Iterator
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cloud.attack.leavings import Leavings
from cloud.attack.link import connect
from cloud.attack.rows import Row
from cloud.core.settings import Settings
from cloud.functions.devices.agents_service import AgentService, BoxKeys
from cloud.ledger import open_ledger
from cloud.security.authority import AuthorityClient
from cloud.security.certificates import key_pem, make_request
from protos.kang.v1 import link_pb2, telemetry_pb2

WITHIN_S = 2.0


def agent(settings: Settings, project: int, elsewhere: int, authority: bytes, made: Leavings) -> Iterator[Row]:
    """Everything that can be tried with an agent of one's own."""
    ledger = open_ledger(settings.effective_ledger_url)
    service, ca, name = AgentService(ledger), AuthorityClient(settings.home), f"attack-{secrets.token_hex(3)}"
    key, request = make_request(name)
    address, pem = f"{settings.gateway_host}:{settings.gateway_port}", key_pem(key)
    mine = ca.agent(request, project, name)
    service.admit(name, project, BoxKeys(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), X25519PrivateKey.generate().public_key().public_bytes_raw()), uplink="grpc", serial=mine.serial,
                  not_after_ms=mine.not_after_ms)
    made.agents.add(name)
    try:
        deadline = time.monotonic() + 10
        while connect(address, authority, (pem, mine.chain), project, name)[0]:
            if time.monotonic() > deadline:
                yield Row("identity", "the genuine one must be taken", False, "refused")
                return
            time.sleep(0.2)
        ended = ca.agent(request, project, name, life_s=1)
        for zone in ("platform", "third"):
            yield Row("identity", f"a genuine certificate of the zone {zone}", *connect(address, authority, (pem, ca.client(request, zone, name).chain), project, name))
        yield Row("identity", "a genuine certificate the ledger does not know", *connect(address, authority, (pem, ca.agent(request, project, name).chain), project, name))
        yield Row("identity", "a genuine certificate of another agent", *connect(address, authority, (pem, ca.agent(request, project, f"{name}-b").chain), project, name))
        yield Row("identity", "a genuine certificate of another project", *connect(address, authority, (pem, ca.agent(request, elsewhere, name).chain), project, name))
        yield Row("identity", "the genuine certificate for another project", *connect(address, authority, (pem, mine.chain), elsewhere, name))
        time.sleep(max(0.0, ended.not_after_ms / 1000 - time.time()) + 0.2)
        yield Row("identity", "a genuine certificate that has ended", *connect(address, authority, (pem, ended.chain), project, name))
        yield from _revoked(service, address, authority, (pem, mine.chain), project, name)
    finally:
        service.revoke(name, by="kang attack", reason="kang attack")
        ledger.close()


def _revoked(service: AgentService, address: str, authority: bytes, pair: tuple[bytes, bytes], project: int, name: str) -> Iterator[Row]:
    """Revoke while the stream is open: it must end by itself, and not come back."""
    inbox: queue.Queue[Any] = queue.Queue()
    inbox.put(link_pb2.Up(heartbeat=telemetry_pb2.Heartbeat(project_id=project, agent_id=name, epoch=bytes(16), boot_id=bytes(16), challenge=bytes(12))))
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, *pair), options=[("grpc.ssl_target_name_override", "kang-gateway")]) as channel:
        call = channel.stream_stream("/kang.v1.EdgeLink/Connect", request_serializer=link_pb2.Up.SerializeToString, response_deserializer=link_pb2.Down.FromString)(iter(inbox.get, None), timeout=30)
        next(call)
        service.revoke(name, by="kang attack", reason="kang attack")
        began = time.monotonic()
        try:
            for _ in call:
                if time.monotonic() - began > WITHIN_S:
                    break
            said = "ended"
        except grpc.RpcError as error:
            said = error.code().name
        took = time.monotonic() - began
        inbox.put(None)
    yield Row("identity", "a stream whose certificate is revoked", took <= WITHIN_S, f"{said} after {took:.2f} s")
    yield Row("identity", "a revoked certificate again", *connect(address, authority, pair, project, name))
