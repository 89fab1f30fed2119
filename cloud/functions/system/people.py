"""The services of people in one record, made from the sessions and one secret. Must not know: FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloud.functions.system.accounts import AccountService
from cloud.functions.system.approvals import ApprovalService
from cloud.functions.system.emergency import EmergencyService
from cloud.functions.system.factors import FactorService
from cloud.functions.system.organisations import OrganisationService
from cloud.functions.system.sessions import SessionService
from cloud.security.sealing import Seal


@dataclass(frozen=True, slots=True)
class People:
    """Accounts, factors, organisations, approvals, emergency grants."""

    accounts: AccountService
    factors: FactorService
    organisations: OrganisationService
    approvals: ApprovalService
    emergency: EmergencyService


def people(sessions: SessionService, secret: bytes, now: Callable[[], int]) -> People:
    """All of them; `secret` seals what must be readable again (authenticator secrets)."""
    factors = FactorService(sessions, Seal(secret), now)
    return People(AccountService(sessions, factors, now), factors, OrganisationService(sessions, now), ApprovalService(sessions.ledger, now), EmergencyService(sessions, now))
