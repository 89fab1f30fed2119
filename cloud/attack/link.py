"""Knocks at the edge link: certificates of nobody, identities of others; and at envelopes: flipped, replayed, stale, redirected.

Must not know: the gateway's code; envelopes are opened by the code both sides share.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud.attack.rows import Row
from cloud.security import keys
from protos import envelope, subjects, suites
from protos.kang.v1 import link_pb2, telemetry_pb2
from protos.suites import SigningKey, Suite


def rogue(identity: str, *, days: int = 30, ago: int = 1) -> tuple[bytes, bytes]:
    """(key, certificate) that nobody's authority signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kang edge CA")])
    now = dt.datetime.now(dt.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=ago)).not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=False).sign(key, hashes.SHA256()))
    return (key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()), made.public_bytes(serialization.Encoding.PEM))


def gateway(address: str, authority: bytes, agents: list[tuple[int, str]]) -> Iterator[Row]:
    """The gRPC link with credentials it must not take."""
    project, agent = agents[0] if agents else (1, "nobody")
    identity = subjects.agent_identity(project, agent)
    expired = rogue(identity, days=-1, ago=40)
    for name, pair in (("no certificate", None), ("a rogue authority", rogue(identity)), ("expired and rogue", expired)):
        yield Row("edge link", name, *connect(address, authority, pair, project, agent))
    try:
        with grpc.insecure_channel(address) as channel:
            call = channel.stream_stream("/kang.v1.EdgeLink/Connect", request_serializer=link_pb2.Up.SerializeToString, response_deserializer=link_pb2.Down.FromString)
            next(call(iter([link_pb2.Up(heartbeat=telemetry_pb2.Heartbeat(project_id=project, agent_id=agent))]), timeout=5))
            refused, said = False, "answered"
    except (grpc.RpcError, StopIteration) as error:
        refused, said = True, _said(error)
    yield Row("edge link", "without TLS", refused, said)


def stolen(address: str, authority: bytes, folder: Path, wrong: tuple[int, str]) -> Iterator[Row]:
    """A real agent's certificate in another agent's or project's name."""
    pair = ((folder / "agent.key").read_bytes(), (folder / "agent.pem").read_bytes())
    yield Row("edge link", "an agent's certificate for another identity", *connect(address, authority, pair, *wrong))


def connect(address: str, authority: bytes, pair: tuple[bytes, bytes] | None, project: int, agent: str) -> tuple[bool, str]:
    """(refused, what was said) of a first heartbeat in that name."""
    credentials = grpc.ssl_channel_credentials(authority, *(pair or (None, None)))
    options = [("grpc.ssl_target_name_override", "kang-gateway"), ("grpc.use_local_subchannel_pool", 1)]
    try:
        with grpc.secure_channel(address, credentials, options=options) as channel:
            call = channel.stream_stream("/kang.v1.EdgeLink/Connect", request_serializer=link_pb2.Up.SerializeToString, response_deserializer=link_pb2.Down.FromString)
            next(call(iter([link_pb2.Up(heartbeat=telemetry_pb2.Heartbeat(project_id=project, agent_id=agent, challenge=bytes(12)))]), timeout=8))
    except (grpc.RpcError, StopIteration) as error:
        return True, _said(error)
    return False, "welcomed"


def _said(error: BaseException) -> str:
    return f"{error.code().name}" if isinstance(error, grpc.RpcError) and hasattr(error, "code") else type(error).__name__


def envelopes() -> Iterator[Row]:
    """Every single flipped bit of a sealed command, and every other way to use one again; in both suites where this machine has both."""
    for suite in keys.suites_here():
        yield from _envelopes(suite)
    window, first, second = envelope.ReplayWindow(), secrets.token_bytes(16), secrets.token_bytes(16)
    tries = (("replayed", first, 5, 5), ("older than the window", first, 100_000, 1))
    for name, epoch, told, again in tries:
        window.accept(epoch, told)
        yield Row("envelope", name, *_checked(window, epoch, again), live=False)
    window.accept(second, 1)
    kept = envelope.ReplayWindow(window.state)
    yield Row("envelope", "replayed after a restart", *_checked(kept, second, 1), live=False)


def _envelopes(suite: Suite) -> Iterator[Row]:
    key, box, challenge, now = suites.signing_key(suite), suites.box_key(suite), secrets.token_bytes(12), time.time_ns() // 1_000_000
    me, suffix = subjects.agent_identity(1, "agent-a"), "" if suite is Suite.STD else f", suite {suite.text}"

    def seal(*, receiver: str = me, sequence: int = 1, signer: SigningKey = key) -> bytes:
        header = envelope.Header(envelope.Kind.COMMAND, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(receiver), bytes(16), sequence, now, now + 30_000, bytes(32), challenge, 5,
                                 suites.suite_of(signer))
        return envelope.Sealer(suites.raw_public(box), suite=suite).seal(envelope.sign(header, b"stop", signer))

    def taken(sealed: bytes, kind: envelope.Kind = envelope.Kind.COMMAND) -> tuple[bool, str]:
        try:
            envelope.Opener(me, box).open(sealed, kind).verify(suites.verifying_key(suites.raw_public(key)), subjects.COMMAND_IDENTITY)
        except envelope.EnvelopeError as error:
            return True, error.code
        return False, "accepted"

    good = seal()
    if taken(good)[0]:
        yield Row("envelope", f"the untouched one must be taken{suffix}", False, "refused", live=False)
    accepted = 0
    for bit in range(len(good) * 8):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        accepted += not taken(bytes(flipped))[0]
    yield Row("envelope", f"{len(good) * 8} single flipped bits{suffix}", accepted == 0, f"{accepted} accepted", live=False)
    cut = sum(not taken(good[:k])[0] for k in range(len(good)))
    yield Row("envelope", f"{len(good)} truncations{suffix}", cut == 0, f"{cut} accepted", live=False)
    yield Row("envelope", f"another receiver's{suffix}", *taken(seal(receiver=subjects.agent_identity(2, "agent-b"))), live=False)
    yield Row("envelope", f"another signer's{suffix}", *taken(seal(signer=suites.signing_key(suite))), live=False)
    yield Row("envelope", f"of another kind{suffix}", *taken(good, envelope.Kind.BATCH), live=False)
    relabelled = bytearray(good)
    relabelled[3] = Suite.SM if suite is Suite.STD else Suite.STD
    yield Row("envelope", f"called one of the other suite{suffix}", *taken(bytes(relabelled)), live=False)


def _checked(window: envelope.ReplayWindow, epoch: bytes, sequence: int) -> tuple[bool, str]:
    try:
        window.check(epoch, sequence)
    except envelope.EnvelopeError as error:
        return True, error.code
    return False, "accepted"
