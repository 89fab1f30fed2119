"""The dialogue between platform and site: written, delivered, read, answered, whatever gets lost on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.functions.devices.service import DeviceService, NewProject
from cloud.functions.system.dialogue import DialogueService, NoteError
from cloud.functions.system.journal import OperationJournal
from cloud.ledger import Ledger
from edge_agent.cli import main
from edge_agent.dialogue import Dialogue
from edge_agent.errors import SiteError
from protos.kang.v1 import telemetry_pb2 as pb

pytestmark = pytest.mark.point("P2")


class House:
    """A platform and a box."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        devices = DeviceService(ledger)
        devices.register_region("r", "区", "Region")
        self.project = devices.register_project(NewProject("p", "项目", "Project", "r", 40.0, 116.0, 1000.0, "heat_pump"))
        devices.register_agent("a1", self.project, signing_public=bytes(32), box_public=bytes(32), uplink="grpc")
        devices.register_agent("a2", self.project, signing_public=bytes(32), box_public=bytes(32), uplink="grpc")
        self.platform = DialogueService(ledger, refresh_s=0)
        self.box = Dialogue(folder / "dialogue.db")

    def beat(self, up: bool = True, down: bool = True) -> None:
        """A heartbeat and its welcome, either of which may be lost."""
        notes, states = self.box.outgoing()
        if up:
            answer = self.platform.exchange(self.project, "a1", notes, states)
            if down:
                self.box.incoming(*answer)

    def on_page(self, identifier: str) -> dict:
        return self.platform.one(identifier) or {}

    def on_site(self, identifier: str) -> dict:
        return next(row for row in self.box.rows() if row["id"] == identifier)


@pytest.fixture
def house(ledger: Ledger, tmp_path: Path) -> Iterator[House]:
    made = House(ledger, tmp_path)
    yield made
    made.box.close()


def test_a_question_is_delivered_read_and_answered(house: House, ledger: Ledger) -> None:
    asked = house.platform.send(house.project, "a1", "3号泵何时修好？", "wang", question=True, choices=["今天", "明天"])["id"]
    assert house.on_page(asked)["state"] == "written"
    assert house.platform.waits("a1")
    assert not house.platform.waits("a2")
    house.beat()
    house.beat()
    assert house.on_page(asked)["state"] == "delivered"
    assert not house.platform.waits("a1")
    house.box.read(asked, "li")
    house.beat()
    assert (house.on_page(asked)["state"], house.on_page(asked)["read_by"]) == ("read", "li")
    with pytest.raises(SiteError, match="今天"):
        house.box.answer(asked, "后天", "li")
    house.box.answer(asked, "明天", "li")
    house.beat()
    found = house.on_page(asked)
    assert (found["state"], found["answer"], found["answered_by"]) == ("answered", "明天", "li")
    assert found["created_ms"] <= found["delivered_ms"] <= found["read_ms"] <= found["answered_ms"]
    with pytest.raises(SiteError):
        house.box.answer(asked, "今天", "zhao")
    assert [r["operation"] for r in OperationJournal(ledger).rows(operation="system.dialogue")] == ["system.dialogue.send"]


def test_a_site_asks_and_sees_that_it_was_read_and_what_was_answered(house: House) -> None:
    asked = house.box.write("可以提高供水温度吗？", "li", question=True)
    house.beat()
    assert house.on_page(asked)["state"] == "delivered"
    assert house.on_site(asked)["state"] == 1
    house.platform.read(asked, "wang")
    house.beat()
    assert house.on_site(asked)["state"] == 2
    house.platform.answer(asked, "可以，55 度", "wang")
    house.beat()
    house.beat()
    seen = house.on_site(asked)
    assert (seen["state"], seen["answer"], seen["by"]) == (3, "可以，55 度", "wang")
    assert not house.platform.waits("a1")
    with pytest.raises(NoteError):
        house.platform.answer(asked, "again", "wang")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31))
def test_whatever_is_lost_both_sides_end_up_with_the_same(house: House, seed: int) -> None:
    r = random.Random(seed)
    notes = list[str]()
    for _ in range(30):
        act = r.randrange(4)
        if act == 0:
            notes.append(house.platform.send(house.project, "a1", "text", "wang", question=True)["id"])
        elif act == 1:
            notes.append(house.box.write("text", "li", question=True))
        elif notes:
            note = r.choice(notes)
            for side, error in ((house.box, SiteError), (house.platform, NoteError)):
                try:
                    side.read(note, "r") if act == 2 else side.answer(note, "yes", "r")
                except error:
                    continue
        house.beat(r.random() < 0.5, r.random() < 0.5)
    for _ in range(8):
        house.beat()
    words = ("written", "delivered", "read", "answered")
    for note in notes:
        page, site = house.on_page(note), house.on_site(note)
        assert page["state"] == words[site["state"]] != "written"
        assert (page["answer"], page["author"]) == (site["answer"], site["author"])
    assert house.box.outgoing() == ([], [])
    assert not house.platform.waits("a1")


def test_a_box_touches_only_its_own_notes_and_nothing_malformed(house: House) -> None:
    other = house.platform.send(house.project, "a2", "for the other box", "wang", question=True)["id"]
    house.platform.exchange(house.project, "a1", [pb.Note(id=other, text="mine now"), pb.Note(id="../../etc", text="x"), pb.Note(id="0" * 32, text=" "), pb.Note(id="1" * 32, text="y" * 9000, author="z" * 99)],
                            [pb.NoteState(id=other, state=3, answer="no"), pb.NoteState(id="2" * 32, state=2), pb.NoteState(id=other, state=77)])
    assert (house.on_page(other)["state"], house.on_page(other)["answer"]) == ("written", "")
    rows = house.platform.rows(projects=None)
    assert len(rows) == 2
    assert max(len(r["text"]) for r in rows) == 500
    with pytest.raises(NoteError):
        house.platform.send(house.project, "nobody", "x", "wang")
    for text in ("", "  ", "x" * 501):
        with pytest.raises(NoteError):
            house.platform.send(house.project, "a1", text, "wang")
        with pytest.raises(SiteError):
            house.box.write(text, "li")


def test_a_message_cannot_be_answered_and_a_state_never_goes_back(house: House) -> None:
    told = house.platform.send(house.project, "a1", "just so you know", "wang")["id"]
    house.beat()
    house.beat()
    house.box.read(told, "li")
    house.beat()
    with pytest.raises(SiteError):
        house.box.answer(told, "ok", "li")
    house.platform.exchange(house.project, "a1", [], [pb.NoteState(id=told, state=1), pb.NoteState(id=told, state=3, answer="forged")])
    assert (house.on_page(told)["state"], house.on_page(told)["answer"]) == ("read", "")


def test_people_on_site_use_the_command_line(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = house.platform.send(house.project, "a1", "All well?", "wang", question=True)["id"]
    site = tmp_path / "box" / "site.yaml"
    site.parent.mkdir()
    site.write_text("project_id: 1\nagent_id: a1\nstate_dir: ..\ncredentials_dir: c\nuplink: {kind: grpc, address: 'localhost:1'}\n")
    house.beat()

    def run(*arguments: str) -> str:
        assert main(["notes", "--site", str(site), "--by", "li", *arguments]) == 0
        return capsys.readouterr().out

    assert asked in run()
    run("--read", asked[:8])
    run("--answer", asked[:8], "yes")
    written = run("--ask", "May we go home?").strip()
    house.beat()
    assert (house.on_page(asked)["state"], house.on_page(asked)["answer"], house.on_page(asked)["answered_by"]) == ("answered", "yes", "li")
    assert (house.on_page(written)["question"], house.on_page(written)["author"]) == (True, "li")
    assert main(["notes", "--site", str(site), "--read", "nothing"]) == 2
