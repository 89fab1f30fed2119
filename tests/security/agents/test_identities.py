"""Agents' identities without processes: who may enrol, renew, sign and stay, as the ledger and the CA's files decide it."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from cloud.core.ports import AgentInfo, FormerKey
from cloud.functions.devices.agents_service import AgentService, BoxKeys, EnrolmentError
from cloud.functions.devices.agents_view import identity_state
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.errors import RegistrationError
from cloud.functions.devices.service import DeviceService, NewProject
from cloud.gateways.trust import CloneWatch
from cloud.ledger import Ledger
from cloud.security import certificates, nats_tokens
from cloud.security import keys as installation_keys
from cloud.security.certificates import CertificateError, Pki, RootSealedError, make_request
from cloud.security.nats_tokens import ACCOUNT, OPERATOR, USER, NatsKey
from protos import subjects, suites
from protos.suites import Suite

DAY = 86_400_000


class Clock:
    now = 1_780_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    home = tmp_path_factory.mktemp("pki")
    made = Pki(home / "pki", home / "credentials")
    made.prepare()
    return made


@pytest.fixture
def project(ledger: Ledger) -> int:
    devices = DeviceService(ledger)
    devices.register_region("r", "区", "Region")
    return devices.register_project(NewProject("p", "项目", "Project", "r", 40.0, 116.0, 1000.0, "heat_pump"))


def box(number: int = 1, hardware: str = "hw") -> BoxKeys:
    return BoxKeys(bytes([number]) * 32, bytes([number]) * 32, "", hardware)


# -- the authority ------------------------------------------------------------------------------------------------------


def test_zones_hang_on_one_root_and_vouch_only_for_their_own(pki):
    root = pki.root.certificate
    for zone in pki.zones.values():
        zone.certificate.verify_directly_issued_by(root)
    _, request = make_request("whatever it says")
    chain, serial, _ = pki.zones["edge"].client(request, subjects.agent_identity(3, "a1"))
    leaf, intermediate = x509.load_pem_x509_certificates(chain)
    leaf.verify_directly_issued_by(intermediate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert (names, serial) == (["kang://project/3/agent/a1"], f"{leaf.serial_number:x}")
    with pytest.raises(ValueError, match=r"Issuer|issuer"):
        leaf.verify_directly_issued_by(pki.zones["third"].certificate)


def test_the_subject_of_a_request_is_ignored(pki):
    _, request = make_request("kang://project/9/agent/somebody-else")
    leaf = x509.load_pem_x509_certificates(pki.zones["edge"].client(request, subjects.agent_identity(1, "me"))[0])[0]
    assert leaf.subject.rfc4514_string() == "CN=me"


def test_keys_of_another_kind_and_rubbish_are_refused(pki):
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, certificates.hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    for bad in (request, b"rubbish", b""):
        with pytest.raises(CertificateError):
            pki.zones["edge"].client(bad, subjects.agent_identity(1, "a"))


def test_no_private_key_is_readable_by_others_and_the_root_key_is_nowhere_in_the_clear(pki):
    for file in pki.folder.iterdir():
        if file.suffix in {".key", ".seed", ".sealed", ".passphrase"}:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert not (pki.folder / "root.key").exists()
    assert b"PRIVATE KEY" not in (pki.folder / "root.sealed").read_bytes()


def test_the_passphrase_leaves_once_and_opens_the_root(tmp_path: Path):
    made = Pki(tmp_path / "pki", tmp_path / "credentials")
    made.prepare()
    before = made.zones["edge"].certificate.serial_number
    passphrase = made.root.take_offline()
    assert made.root.taken_offline
    with pytest.raises(RootSealedError):
        made.root.take_offline()
    with pytest.raises(RootSealedError):
        made.renew_zone("edge", passphrase + "X")
    _, request = make_request("x")
    old = x509.load_pem_x509_certificates(made.zones["edge"].client(request, subjects.agent_identity(1, "a"))[0])[0]
    made.renew_zone("edge", passphrase)
    assert made.zones["edge"].certificate.serial_number != before
    vouching = x509.load_pem_x509_certificates((tmp_path / "credentials" / "edge-clients.pem").read_bytes())
    assert sum(_issued_by(old, authority) for authority in vouching) == 1  # what the one before signed stays good


def _issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except Exception:
        return False
    return True


def test_an_installation_with_the_old_ca_keeps_working_until_it_is_retired(tmp_path: Path):
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    other = Pki(tmp_path / "other", tmp_path / "other-credentials")
    other.prepare()
    certificates.write_secret(credentials / "edge-ca.key", (other.folder / "edge.key").read_bytes())  # any old CA: a key and its certificate
    (credentials / "edge-ca.pem").write_bytes((other.folder / "edge.pem").read_bytes())
    made = Pki(tmp_path / "pki", credentials)
    made.prepare()
    assert not (credentials / "edge-ca.key").exists()
    anchors = x509.load_pem_x509_certificates((credentials / "edge-ca.pem").read_bytes())
    assert len(anchors) == 2
    _, request = make_request("gateway")
    server = x509.load_pem_x509_certificates(made.server_authority().server(request, "gateway", ["localhost"]))[0]
    assert _issued_by(server, other.zones["edge"].certificate)  # an agent that knows only the old CA still trusts our gateway
    made.retire_legacy()
    assert len(x509.load_pem_x509_certificates((credentials / "edge-ca.pem").read_bytes())) == 1


# -- suites -------------------------------------------------------------------------------------------------------------


def sm_box() -> BoxKeys:
    return BoxKeys(suites.raw_public(suites.signing_key(Suite.SM)), suites.raw_public(suites.box_key(Suite.SM)), "", "hw")


def test_an_agent_is_of_the_suite_it_was_admitted_with_until_it_is_admitted_again(ledger, project):
    service, directory, mine = AgentService(ledger), LedgerDirectory(ledger, refresh_s=0), sm_box()
    service.admit("a1", project, mine, uplink="grpc", serial="s1", not_after_ms=0)
    assert directory.agent("a1").suite is Suite.SM
    with pytest.raises(EnrolmentError):
        service.renew("a1", signing=bytes(32), nkey="", serial="s2", not_after_ms=0, grace=False)
    service.renew("a1", signing=sm_box().signing, nkey="", serial="s2", not_after_ms=0, grace=False)
    known = directory.agent("a1")
    assert (known.suite, known.signing_public != mine.signing, len(known.former_keys)) == (Suite.SM, True, 2)
    service.admit("a1", project, box(), uplink="grpc", serial="s3", not_after_ms=0)
    known = directory.agent("a1")
    assert (known.suite, known.former_keys) == (Suite.STD, ()), "nothing of the other suite is accepted any more"


@pytest.mark.parametrize("keys", [BoxKeys(bytes(32), sm_box().box), BoxKeys(sm_box().signing, bytes(32)), BoxKeys(b"\x01" * 64, sm_box().box), BoxKeys(sm_box().signing, b"\x01" * 64), BoxKeys(bytes(33), bytes(33))])
def test_keys_of_two_suites_or_of_none_admit_nobody(ledger, project, keys):
    with pytest.raises(RegistrationError, match="one suite"):
        AgentService(ledger).admit("a1", project, keys, uplink="grpc", serial="s1", not_after_ms=0)
    assert LedgerDirectory(ledger).agent("a1") is None


def test_the_platform_keeps_keys_of_both_suites_as_private_files(tmp_path: Path):
    made = {**{f"c{s}": k for s, k in installation_keys.signing_keys(tmp_path, "command").items()}, **{f"t{s}": k for s, k in installation_keys.box_keys(tmp_path, "telemetry").items()}}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["command.ed25519", "command.sm2", "telemetry.sm2", "telemetry.x25519"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()} == {0o600}
    installation_keys.publish(tmp_path, "command")
    assert {f.name: len(f.read_bytes()) for f in tmp_path.glob("command*pub")} == {"command.pub": 32, "command.sm2.pub": 64}
    again = installation_keys.signing_keys(tmp_path, "command")
    assert {suites.raw_public(again[s]) for s in Suite} == {suites.raw_public(made[f"c{s}"]) for s in Suite}
    (tmp_path / "command.sm2").chmod(0o640)
    with pytest.raises(installation_keys.CredentialError):
        installation_keys.signing_keys(tmp_path, "command")


# -- NATS ---------------------------------------------------------------------------------------------------------------


def test_nkeys_read_back_and_a_broken_one_is_noticed():
    for kind, letter in ((OPERATOR, "O"), (ACCOUNT, "A"), (USER, "U")):
        key = NatsKey.make(kind)
        assert key.public[0] == letter
        assert NatsKey.from_seed(key.seed).public == key.public
    good = NatsKey.make(USER).public
    assert nats_tokens.valid_user_key(good)
    assert not nats_tokens.valid_user_key(good[:-1] + ("A" if good[-1] != "A" else "B"))
    assert not nats_tokens.valid_user_key(NatsKey.make(ACCOUNT).public)


@given(st.text(max_size=80))
def test_rubbish_is_never_a_user_key(text: str):
    assert not nats_tokens.valid_user_key(text)


# -- invitations --------------------------------------------------------------------------------------------------------


def test_a_token_admits_once(ledger, project):
    service = AgentService(ledger)
    token, found = service.invite("a1", project, by="anna")
    assert (len(token), found.agent_id) == (32, "a1")
    service.enrol(token, box(), serial="s1", not_after_ms=service._now_ms() + DAY)
    with pytest.raises(EnrolmentError):
        service.enrol(token, box(2), serial="s2", not_after_ms=0)
    agent = LedgerDirectory(ledger).agent("a1")
    assert agent is not None
    assert (agent.signing_public, agent.certificates) == (bytes([1]) * 32, frozenset({"s1"}))


def test_a_token_is_stored_only_as_a_hash(ledger, project):
    token, _ = AgentService(ledger).invite("a1", project)
    with ledger.engine.connect() as connection:
        rows = str(connection.exec_driver_sql("SELECT * FROM agent_invitation").fetchall()) + str(connection.exec_driver_sql("SELECT * FROM agent_event").fetchall())
    assert token not in rows


@pytest.mark.parametrize("ruin", ["expired", "withdrawn", "other box", "replaced", "unknown"])
def test_every_wrong_token_is_refused_with_one_wording(ledger, project, ruin):
    clock = Clock()
    service = AgentService(ledger, clock)
    token, found = service.invite("a1", project, hardware_id="hw")
    hardware = "hw"
    if ruin == "expired":
        clock.now += DAY + 1
    elif ruin == "withdrawn":
        service.withdraw(found.id)
    elif ruin == "other box":
        hardware = "another"
    elif ruin == "replaced":
        service.invite("a1", project)
    else:
        token = "0" * 32
    with pytest.raises(EnrolmentError) as refused:
        service.look_up(token, hardware)
    assert refused.value.message("en") == "Enrolment is refused: the token is not valid, was used, or has expired. Ask the administrator for a new invitation."


def test_a_revoked_agents_invitation_ends_with_it(ledger, project):
    service = AgentService(ledger)
    token, _ = service.invite("a1", project)
    service.enrol(token, box(), serial="s1", not_after_ms=0)
    waiting, _ = service.invite("a1", project)
    service.revoke("a1", by="anna", reason="stolen")
    with pytest.raises(EnrolmentError):
        service.look_up(waiting, "hw")
    assert "a1" not in service.usable()[0]


# -- renewal ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def enrolled(ledger, project) -> AgentService:
    service = AgentService(ledger)
    token, _ = service.invite("a1", project)
    service.enrol(token, box(), serial="s1", not_after_ms=service._now_ms() + DAY)
    return service


def test_old_and_new_certificate_are_both_good_until_the_agent_has_changed(enrolled, ledger, project):
    enrolled.renew("a1", signing=bytes([2]) * 32, nkey="", serial="s2", not_after_ms=1, grace=False)
    assert enrolled.usable()[0]["a1"] == {"s1", "s2"}
    enrolled.confirm("a1", "s2", {"batch": (b"e" * 16, 10), "result": (b"f" * 16, 3)})
    assert enrolled.usable()[0]["a1"] == {"s2"}
    with pytest.raises(EnrolmentError):
        enrolled.renewable("a1", project, "s1", "hw", grace=False)


def test_a_confirmation_over_the_certificate_of_before_does_not_end_the_new_one(enrolled):
    enrolled.renew("a1", signing=bytes([2]) * 32, nkey="", serial="s2", not_after_ms=1, grace=False)
    with pytest.raises(EnrolmentError):
        enrolled.confirm("a1", "s1", {})
    assert enrolled.usable()[0]["a1"] == {"s1", "s2"}


def test_a_spooled_batch_is_verified_by_the_key_that_signed_it(enrolled, ledger):
    old, new, epoch = bytes([1]) * 32, bytes([2]) * 32, b"e" * 16
    directory = LedgerDirectory(ledger, refresh_s=0)
    enrolled.renew("a1", signing=new, nkey="", serial="s2", not_after_ms=1, grace=False)
    assert set(directory.agent("a1").verifying_keys("batch", epoch, 7)) == {old, new}
    enrolled.confirm("a1", "s2", {"batch": (epoch, 10), "result": (epoch, 0)})
    agent = directory.agent("a1")
    assert agent.verifying_keys("batch", epoch, 10) == (old,)
    assert agent.verifying_keys("batch", epoch, 11) == (new,)
    assert agent.verifying_keys("batch", b"x" * 16, 1) == (new,)  # the old key signs nothing in another stream
    assert agent.verifying_keys("result", epoch, 1) == (new,)     # it had signed no result
    enrolled.drained("a1", epoch, 10)
    assert directory.agent("a1").verifying_keys("batch", epoch, 10) == (new,)


def test_two_changes_before_the_spool_is_drained_keep_three_keys_apart():
    agent = AgentInfo("a", 1, b"3", b"", "grpc", former_keys=(FormerKey("batch", b"1", b"e", 10), FormerKey("batch", b"2", b"e", 20)))
    assert [agent.verifying_keys("batch", b"e", n) for n in (10, 11, 20, 21)] == [(b"1",), (b"2",), (b"2",), (b"3",)]


def test_asking_again_after_a_lost_answer_changes_nothing_but_the_certificate(enrolled, ledger):
    for serial in ("s2", "s3"):
        enrolled.renew("a1", signing=bytes([2]) * 32, nkey="", serial=serial, not_after_ms=1, grace=False)
    assert enrolled.usable()[0]["a1"] == {"s1", "s3"}
    assert len(LedgerDirectory(ledger).agent("a1").former_keys) == 2  # one for batches, one for results


@pytest.mark.parametrize("ruin", ["revoked", "other box", "other project", "unknown serial", "clone"])
def test_grace_is_only_for_the_same_unrevoked_box(enrolled, project, ruin):
    enrolled.renewable("a1", project, "s1", "hw", grace=True)
    hardware, where, serial = "hw", project, "s1"
    if ruin == "revoked":
        enrolled.revoke("a1")
    elif ruin == "other box":
        hardware = "another"
    elif ruin == "other project":
        where = project + 1
    elif ruin == "clone":
        enrolled.suspect("a1", "two boots")
    else:
        serial = "s9"
    with pytest.raises(EnrolmentError):
        enrolled.renewable("a1", where, serial, hardware, grace=True)


def test_a_grace_renewal_leaves_an_event(enrolled):
    enrolled.renew("a1", signing=bytes([2]) * 32, nkey="", serial="s2", not_after_ms=1, grace=True)
    assert next(e["kind"] for e in enrolled.events("a1")) == "grace_renewal"


# -- clones -------------------------------------------------------------------------------------------------------------


def test_a_reboot_is_no_clone_and_two_live_boots_are():
    watch = CloneWatch(lambda: 0.0)
    assert [watch.heard("a", b) for b in (b"1", b"1", b"2", b"2")] == [False] * 4
    assert watch.heard("a", b"1")
    assert watch.trusted("a", b"1")
    assert not watch.trusted("a", b"2")
    assert watch.trusted("b", b"2")


def test_a_boot_heard_again_after_a_day_is_an_old_image_not_a_second_box():
    now = [0.0]
    watch = CloneWatch(lambda: now[0])
    watch.heard("a", b"1")
    now[0] += 90_000
    watch.heard("a", b"2")
    assert not watch.heard("a", b"1")


def test_a_person_ends_the_suspicion(enrolled):
    assert enrolled.suspect("a1", "two boots")
    assert not enrolled.suspect("a1", "again")
    assert enrolled.usable()[1] == {"a1"}
    enrolled.clear("a1", by="anna")
    assert enrolled.usable()[1] == frozenset()


@given(st.lists(st.integers(0, 50), max_size=40))
def test_boots_that_never_come_back_never_raise_suspicion(steps: list[int]):
    watch, boot = CloneWatch(lambda: 0.0), 0
    for step in steps:
        boot += step % 2
        assert not watch.heard("a", boot.to_bytes(4, "big"))


# -- the page's word ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "state"), [(1, "active"), (19, "active"), (21, "renewal_due"), (31, "grace"), (119, "grace"), (121, "expired")])
def test_a_certificates_life_in_one_word(days, state):
    issued = 1_780_000_000_000
    facts = {"issued_ms": issued, "not_after_ms": issued + 30 * DAY}
    assert identity_state(False, facts, issued + days * DAY) == state
    assert identity_state(True, facts, issued + days * DAY) == "revoked"
    assert identity_state(False, {**facts, "clone_ms": 1}, issued + days * DAY) == "clone"


def test_a_certificate_lives_thirty_days(pki):
    _, request = make_request("x")
    _, _, end = pki.zones["edge"].client(request, subjects.agent_identity(1, "a"))
    left = dt.datetime.fromtimestamp(end / 1000, dt.UTC) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=29, hours=23) < left <= dt.timedelta(days=30)


@pytest.mark.parametrize("keys", [(b"1", b"2"), (b"2", b"1")])
def test_of_two_keys_that_end_at_one_number_the_older_signed_what_came_before(keys: tuple[bytes, bytes]) -> None:
    first, second = keys  # renewed twice without a batch between: the second key signed nothing
    agent = AgentInfo("a1", 1, b"3", b"", "grpc", former_keys=(FormerKey("batch", first, b"e", 10), FormerKey("batch", second, b"e", 10)))
    assert [agent.verifying_keys("batch", b"e", n) for n in (1, 10, 11)] == [(first,), (first,), (b"3",)]
