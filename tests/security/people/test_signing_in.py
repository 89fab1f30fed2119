"""Signing in under attack: no enumeration, no reuse, no fixation, five tries, two factors, and a fresh proof for what is dangerous."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pyotp
import pytest
from sqlalchemy import select

from cloud.functions.system.errors import TooManyFailuresError
from cloud.functions.system.people_tables import Account, Passkey, PasswordHistory, RecoveryCode
from cloud.security.passwords import PasswordPolicyError, check_policy
from tests.portal.conftest import Clock, SignIn
from tests.security.people.conftest import Device
from tests.support.site import Site

GOOD = "Warm-Floor-2690!x"


async def enrol(client: httpx.AsyncClient, clock: Clock, password: str = GOOD) -> tuple[pyotp.TOTP, list[str]]:
    """Set a password and an authenticator."""
    assert (await client.put("me/password", json={"new": password})).status_code == 204
    secret = (await client.post("me/authenticator")).json()["secret"]
    app = pyotp.TOTP(secret)
    answer = await client.post("me/authenticator/confirm", json={"code": app.at(clock.ms // 1000)})
    assert answer.status_code == 200, answer.text
    return app, answer.json()["recovery_codes"]


async def attempt(client: httpx.AsyncClient, name: str, password: str, second: str) -> httpx.Response:
    return await client.post("session", json={"name": name, "password": password, "second": second})


async def test_password_and_authenticator_sign_in_and_neither_alone_does(site: Site, sign_in: SignIn, clock: Clock) -> None:
    app, _ = await enrol(await sign_in("engineer"), clock)
    clock.ms += 60_000
    stranger = await sign_in("")
    code = app.at(clock.ms // 1000)
    assert (await attempt(stranger, "engineer", GOOD, "")).json()["code"] == "E-SIGN-IN"
    assert (await attempt(stranger, "engineer", "Warm-Floor-2690!y", code)).json()["code"] == "E-SIGN-IN"
    good = await attempt(stranger, "engineer", GOOD, code)
    assert good.status_code == 200 and good.json()["factors"] == {"password": True, "totp": True, "passkeys": 0}
    with site.ledger.read() as session:
        account = session.scalars(select(Account).where(Account.password_hash.is_not(None))).one()
        assert account.password_hash is not None and account.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert account.totp_sealed is not None and app.secret.encode() not in account.totp_sealed


async def test_a_code_of_the_authenticator_works_once_even_for_the_right_person(sign_in: SignIn, clock: Clock) -> None:
    app, _ = await enrol(await sign_in("engineer"), clock)
    stranger, again = await sign_in(""), await sign_in("")
    assert (await attempt(stranger, "engineer", GOOD, app.at(clock.ms // 1000))).status_code == 401, "the code that confirmed the enrolment is used"
    clock.ms += 30_000
    code = app.at(clock.ms // 1000)
    assert (await attempt(stranger, "engineer", GOOD, code)).status_code == 200
    assert (await attempt(again, "engineer", GOOD, code)).status_code == 401


async def test_one_code_in_twenty_hands_at_once_opens_one_session(site: Site, sign_in: SignIn, clock: Clock) -> None:
    client = await sign_in("engineer")
    app, _ = await enrol(client, clock)
    clock.ms += 30_000
    code = app.at(clock.ms // 1000)
    answers = await asyncio.gather(*(asyncio.to_thread(site.app.state.services.people.factors._judge, "engineer", code, True, None, f"10.0.0.{k}", "") for k in range(20)),
                                   return_exceptions=True)
    assert sum(not isinstance(a, BaseException) for a in answers) == 1


async def test_a_recovery_code_works_once(site: Site, sign_in: SignIn, clock: Clock) -> None:
    _, codes = await enrol(await sign_in("engineer"), clock)
    stranger = await sign_in("")
    assert len(codes) == 10
    assert (await attempt(stranger, "engineer", GOOD, codes[0].lower())).status_code == 200
    assert (await attempt(await sign_in(""), "engineer", GOOD, codes[0])).status_code == 401
    with site.ledger.read() as session:
        assert not set(codes) & set(session.scalars(select(RecoveryCode.digest)))


async def test_unknown_names_are_refused_with_the_same_words_at_every_step(sign_in: SignIn, clock: Clock) -> None:
    app, _ = await enrol(await sign_in("engineer"), clock)
    known, unknown = [], []
    for name, seen in (("engineer", known), ("nobody-here", unknown)):
        client = await sign_in("")
        client.headers["x-test"] = name
        for _ in range(7):
            clock.ms += 1
            answer = await attempt(client, name, "Not-The-Right-1", "000000")
            body = answer.json()
            seen.append((answer.status_code, body["code"], body["zh"], body["en"], answer.headers.get("retry-after")))
        clock.ms += 900_001
    assert [s[:2] for s in known] == [(401, "E-SIGN-IN")] * 5 + [(429, "E-SIGN-IN-RATE")] * 2
    assert known == unknown
    assert app


async def test_the_sixth_try_is_refused_though_it_is_right_and_a_quarter_of_an_hour_later_it_is_not(sign_in: SignIn, clock: Clock) -> None:
    app, _ = await enrol(await sign_in("engineer"), clock)
    client = await sign_in("")
    for _ in range(5):
        assert (await attempt(client, "engineer", "Not-The-Right-1", "000000")).status_code == 401
    clock.ms += 60_000
    refused = await attempt(client, "engineer", GOOD, app.at(clock.ms // 1000))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "840")
    clock.ms += 840_000
    assert (await attempt(client, "engineer", GOOD, app.at(clock.ms // 1000))).status_code == 200


async def test_forty_guesses_at_once_are_five_tries(site: Site, sign_in: SignIn, clock: Clock) -> None:
    await enrol(await sign_in("engineer"), clock)
    factors = site.app.state.services.people.factors
    answers = await asyncio.gather(*(asyncio.to_thread(factors._begin, "engineer", f"10.0.{k}.1") for k in range(40)), return_exceptions=True)
    assert sum(isinstance(a, TooManyFailuresError) for a in answers) == 35


async def test_an_address_that_tries_many_names_waits_too(sign_in: SignIn) -> None:
    client = await sign_in("")
    codes = [(await attempt(client, f"name-{k}", "x", "")).json()["code"] for k in range(6)]
    assert codes == ["E-SIGN-IN"] * 5 + ["E-SIGN-IN-RATE"]


async def test_a_planted_session_id_is_not_taken_over_and_the_old_session_ends(site: Site, sign_in: SignIn) -> None:
    victim = await sign_in("")
    victim.cookies.set("kang_session", "planted-by-the-attacker", domain="portal.test")
    assert (await victim.post("session", json={"code": site.sessions.issue_code("operator")})).status_code == 200
    first = next(c.value for c in victim.cookies.jar if c.name == "kang_session" and c.value != "planted-by-the-attacker")
    assert first != "planted-by-the-attacker"
    again = await sign_in("")
    again.cookies.set("kang_session", first or "", domain="portal.test", path="/")
    await again.post("session", json={"code": site.sessions.issue_code("operator")})
    attacker = await sign_in("")
    for cookie in ("planted-by-the-attacker", first or ""):
        attacker.cookies.set("kang_session", cookie, domain="portal.test")
        assert (await attacker.get("session")).status_code == 401


async def test_a_page_of_another_site_cannot_sign_somebody_in_or_change_anything(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator", headers={"Sec-Fetch-Site": "same-origin"})
    client.headers["Sec-Fetch-Site"] = "cross-site"
    assert (await client.delete("session")).json()["code"] == "E-CSRF"
    stranger = await sign_in("", headers={"Sec-Fetch-Site": "cross-site"})
    assert (await stranger.post("session", json={"code": site.sessions.issue_code("operator")})).json()["code"] == "E-CSRF"


async def command(client: httpx.AsyncClient, site: Site, key: str) -> httpx.Response:
    body = {"device_id": site.device("cuihu", "H0101"), "kind": "hold", "point_id": 135, "value": 20}
    return await client.post("commands", json=body, headers={"Idempotency-Key": key})


async def test_control_needs_a_proof_of_the_last_five_minutes_and_a_new_proof_opens_it_again(site: Site, sign_in: SignIn, clock: Clock) -> None:
    client = await sign_in("operator")
    app, _ = await enrol(client, clock)
    clock.ms += 299_000
    assert (await command(client, site, "fresh-enough")).status_code != 401
    clock.ms += 10_000
    refused = await command(client, site, "too-old-now")
    assert (refused.status_code, refused.json()["code"]) == (401, "E-FACTOR-AGE")
    assert (await client.post("commands/emergency-stop", json={"device_id": site.device("cuihu", "EB1")}, headers={"Idempotency-Key": "never-refused"})).status_code == 202
    assert (await client.post("session/reauthenticate", json={"code": "000000"})).json()["code"] == "E-FACTOR"
    assert (await client.post("session/reauthenticate", json={"code": app.at(clock.ms // 1000)})).status_code == 200
    assert (await command(client, site, "fresh-again-1")).status_code != 401


async def test_a_one_time_code_of_somebody_else_is_no_proof_and_is_not_used_up(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    code = site.sessions.issue_code("engineer")
    assert (await client.post("session/reauthenticate", json={"one_time": code})).json()["code"] == "E-FACTOR"
    assert (await client.post("session/reauthenticate", json={"one_time": site.sessions.issue_code("operator")})).status_code == 200
    assert (await (await sign_in("")).post("session", json={"code": code})).status_code == 200


async def test_a_passkey_registers_signs_in_and_proves_again(sign_in: SignIn, clock: Clock, device: Device) -> None:
    client = await sign_in("engineer")
    options = (await client.post("me/passkeys/challenge")).json()
    made = await client.post("me/passkeys", json={"token": options["token"], "credential": device.create(options), "name": "phone"})
    assert made.status_code == 204, made.text
    stranger = await sign_in("")
    options = (await stranger.get("session/passkey")).json()
    answer = device.get(options)
    opened = await stranger.post("session/passkey", json={"token": options["token"], "credential": answer})
    assert opened.status_code == 200 and opened.json()["name"] == "engineer"
    replay = await (await sign_in("")).post("session/passkey", json={"token": options["token"], "credential": answer})
    assert (replay.status_code, replay.json()["code"]) == (401, "E-PASSKEY")
    stranger.headers["X-Kang-CSRF"] = opened.json()["csrf"]
    clock.ms += 400_000
    options = (await stranger.get("session/reauthenticate")).json()
    assert (await stranger.post("session/reauthenticate", json={"token": options["token"], "credential": device.get(options)})).status_code == 200


@pytest.mark.parametrize(("why", "options"), [("another site", {"origin": "https://portal.test.evil"}), ("no user verification", {"verified": False})])
async def test_a_passkey_for_another_site_or_without_its_user_is_refused(sign_in: SignIn, device: Device, why: str, options: dict[str, Any]) -> None:
    client = await sign_in("engineer")
    challenge = (await client.post("me/passkeys/challenge")).json()
    await client.post("me/passkeys", json={"token": challenge["token"], "credential": device.create(challenge), "name": "phone"})
    stranger = await sign_in("")
    challenge = (await stranger.get("session/passkey")).json()
    assert (await stranger.post("session/passkey", json={"token": challenge["token"], "credential": device.get(challenge, **options)})).json()["code"] == "E-PASSKEY", why


async def test_a_copied_passkey_shows_by_its_counter_and_a_late_answer_is_refused(site: Site, sign_in: SignIn, clock: Clock, device: Device) -> None:
    client = await sign_in("engineer")
    challenge = (await client.post("me/passkeys/challenge")).json()
    await client.post("me/passkeys", json={"token": challenge["token"], "credential": device.create(challenge), "name": "phone"})
    with site.ledger.write() as session:
        session.scalars(select(Passkey)).one().sign_count = 50
    stranger = await sign_in("")
    challenge = (await stranger.get("session/passkey")).json()
    assert (await stranger.post("session/passkey", json={"token": challenge["token"], "credential": device.get(challenge)})).status_code == 401
    device.inner.sign_count = 100
    challenge = (await stranger.get("session/passkey")).json()
    late = device.get(challenge)
    clock.ms += 300_000
    assert (await stranger.post("session/passkey", json={"token": challenge["token"], "credential": late})).status_code == 401


async def test_a_challenge_for_one_person_is_not_anothers(sign_in: SignIn, device: Device) -> None:
    mine, other = await sign_in("engineer"), await sign_in("operator")
    challenge = (await mine.post("me/passkeys/challenge")).json()
    assert (await other.post("me/passkeys", json={"token": challenge["token"], "credential": device.create(challenge), "name": "phone"})).json()["code"] == "E-PASSKEY"


@pytest.mark.parametrize("bad", ["Short-1a", "alllowercaseletters", "Password-2690-x", "Engineer-Floor-1", "Aa1Aa1Aa1Aa1", "A" * 129 + "a1"])
def test_the_policy_refuses(bad: str) -> None:
    with pytest.raises(PasswordPolicyError):
        check_policy(bad, ("engineer", "工程师"))


async def test_none_of_the_last_five_passwords_comes_back_and_other_sessions_end(site: Site, sign_in: SignIn) -> None:
    client, other = await sign_in("engineer"), await sign_in("engineer")
    present = ""
    for k in range(6):
        new = f"Warm-Floor-{k}-Zq!"
        assert (await client.put("me/password", json={"new": new, "present": present})).status_code == 204
        present = new
    assert (await client.put("me/password", json={"new": "Warm-Floor-3-Zq!", "present": present})).json()["code"] == "E-PASSWORD-POLICY"
    assert (await client.put("me/password", json={"new": "Warm-Floor-0-Zq!", "present": "wrong"})).json()["code"] == "E-FACTOR"
    assert (await client.put("me/password", json={"new": "Warm-Floor-0-Zq!", "present": present})).status_code == 204
    assert (await other.get("session")).status_code == 401
    with site.ledger.read() as session:
        assert len(session.scalars(select(PasswordHistory)).all()) == 5


async def test_an_old_password_opens_only_ones_own_account(sign_in: SignIn, clock: Clock) -> None:
    app, _ = await enrol(await sign_in("engineer"), clock)
    clock.ms += 91 * 86_400_000
    client = await sign_in("")
    opened = await attempt(client, "engineer", GOOD, app.at(clock.ms // 1000))
    assert opened.json()["restricted"] == "password" and "devices.device.read" not in opened.json()["operations"]
    client.headers["X-Kang-CSRF"] = opened.json()["csrf"]
    assert (await client.get("devices")).json()["code"] == "E-PASSWORD-EXPIRED"
    assert (await client.put("me/password", json={"new": "Other-Floor-2690!", "present": GOOD})).status_code == 204
    assert (await client.get("devices")).status_code == 200


async def test_the_last_second_factor_cannot_be_taken_away(sign_in: SignIn, clock: Clock) -> None:
    client = await sign_in("engineer")
    await enrol(client, clock)
    assert (await client.delete("me/authenticator")).json()["code"] == "E-FACTOR"
