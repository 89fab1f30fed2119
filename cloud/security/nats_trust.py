"""Our own NATS server's operator and one account per zone: who may connect, and what crosses between the zones.

Three accounts hold nothing in common. The platform's has JetStream; the monitoring zone's has the agents; the third parties' has nobody yet.
A message crosses only where one account exports a subject as a service and the other imports it: requests go over, and so do their answers
(JetStream's acknowledgement of a batch among them), nothing else. Must not know: certificates, who asks.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any, Final

import nats

from cloud.bus.connection import tls_context
from cloud.core.settings import Settings
from cloud.security import nats_tokens
from cloud.security.keys import read_secret, write_secret
from cloud.security.nats_tokens import ACCOUNT, OPERATOR, USER, NatsKey

#: What agents may say to the platform: sealed batches and results (JetStream acknowledges), heartbeats (answered), live frames.
UPWARD: Final = ("tel.>", "ctl.>", "up.*.*.heartbeat", "up.*.*.live")
#: What the platform may say to agents: acknowledgements, commands (answered when they stand in the connection), leases, welcomes.
DOWNWARD: Final = ("down.>",)


class Refused(Exception):  # noqa: N818 - reads as the answer it becomes
    """A question that is not answered, and why."""


class NatsTrust:
    """Operator, accounts and revocations. It alone uses NATS's system account.

    Args:
        settings: of the installation.
        folder: where the CA process keeps its keys.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        if (folder / "nats-account.seed").exists() and not (folder / "nats-monitoring.seed").exists():
            write_secret(folder / "nats-split", str(int(time.time())).encode())
        self.operator = self._key("nats-operator", OPERATOR)
        self.system = self._key("nats-system", ACCOUNT)
        self.account = self._key("nats-account", ACCOUNT)
        self.monitoring = self._key("nats-monitoring", ACCOUNT)
        self.third = self._key("nats-third", ACCOUNT)
        self._me = self._key("nats-ca", USER)
        self._client: Any = None
        self._pushing = asyncio.Lock()

    def _key(self, name: str, kind: int) -> NatsKey:
        file = self._folder / f"{name}.seed"
        if not file.exists():
            write_secret(file, NatsKey.make(kind).seed)
        return NatsKey.from_seed(read_secret(file))

    def _platform_account(self, revoked: dict[str, int]) -> str:
        return nats_tokens.account_jwt(self.operator, self.account.public, "KANG", issued_s=int(time.time()), revoked=revoked, jetstream=True,
                                       exports=UPWARD, imports=dict.fromkeys(DOWNWARD, self.monitoring.public))

    def _monitoring_account(self, revoked: dict[str, int]) -> str:
        return nats_tokens.account_jwt(self.operator, self.monitoring.public, "MONITORING", issued_s=int(time.time()), revoked=revoked,
                                       exports=DOWNWARD, imports=dict.fromkeys(UPWARD, self.account.public))

    def prepare(self) -> None:
        """Write the accounts' JWTs where our server reads them at its start."""
        target = self._settings.home / "nats-jwt"
        target.mkdir(mode=0o700, exist_ok=True)
        now, revoked = int(time.time()), self._revoked()
        for key, token in ((self.system, nats_tokens.account_jwt(self.operator, self.system.public, "SYSTEM", issued_s=now)), (self.account, self._platform_account(revoked)),
                           (self.monitoring, self._monitoring_account(revoked)), (self.third, nats_tokens.account_jwt(self.operator, self.third.public, "THIRD", issued_s=now))):
            (target / f"{key.public}.jwt").write_text(token)

    def description(self) -> dict[str, str]:
        """What the server's configuration says of us."""
        return {"operator": nats_tokens.operator_jwt(self.operator, self.system.public, issued_s=int(time.time())), "system_account": self.system.public, "account": self.account.public}

    def agent(self, nkey: str, project_id: int, agent_id: str, partition: int) -> str:
        """A site's user of the monitoring zone for a day: its own telemetry, results and upward subjects; what is addressed to it, and its own inbox."""
        if not nats_tokens.valid_user_key(nkey):
            raise Refused("not a NATS user key")
        mine, now = f"{project_id}.{agent_id}", int(time.time())
        return nats_tokens.user_jwt(
            self.monitoring, nkey, agent_id, issued_s=now, expires_s=now + nats_tokens.USER_LIFE_S,
            publish=[f"tel.{partition:03d}.{mine}", f"ctl.{mine}", f"up.{mine}.>"], subscribe=[f"down.{mine}.>", f"_INBOX.{agent_id}.>"])

    def platform(self, nkey: str) -> str:
        """The platform's own user."""
        if not nats_tokens.valid_user_key(nkey):
            raise Refused("not a NATS user key")
        return nats_tokens.user_jwt(self.account, nkey, "platform", issued_s=int(time.time()))

    def _revoked(self) -> dict[str, int]:
        file = self._folder / "nats-revoked.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _just_split(self) -> bool:
        """Can an agent still hold a JWT of the one account there was before the zones had their own? Such a JWT lived a day."""
        file = self._folder / "nats-split"
        return file.exists() and time.time() - int(read_secret(file)) < nats_tokens.USER_LIFE_S

    async def revoke(self, wanted: dict[str, int]) -> float:
        """Make these the revoked users (nkey: second up to which its JWTs are refused) and cut their connections; returns seconds taken, 0 = nothing new."""
        async with self._pushing:
            if wanted == self._revoked():
                return 0.0
            started = time.monotonic()
            client = await self._connection()
            for token in (self._monitoring_account(wanted), *([self._platform_account(wanted)] if self._just_split() else [])):
                answer = json.loads((await client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=5)).data)
                if "error" in answer:
                    raise Refused(f"NATS refuses the account: {answer['error']}")
            write_secret(self._folder / "nats-revoked.json", json.dumps(wanted).encode())
            return time.monotonic() - started

    async def _connection(self) -> Any:
        if self._client is None or not self._client.is_connected:
            jwt = nats_tokens.user_jwt(self.system, self._me.public, "ca", issued_s=int(time.time()))
            credentials = self._settings.credentials
            self._client = await nats.connect(
                self._settings.effective_nats_url, name="ca", tls=tls_context(credentials / "edge-ca.pem", credentials / "platform-nats.pem", credentials / "platform-nats.key"), allow_reconnect=False,
                connect_timeout=5, user_jwt_cb=lambda: bytearray(jwt.encode()), signature_cb=lambda nonce: base64.b64encode(self._me.private.sign(nonce.encode())))
        return self._client
