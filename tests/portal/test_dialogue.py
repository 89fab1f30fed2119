"""The dialogue over REST: who may write, whose notes are seen, and what is refused."""

from __future__ import annotations

import uuid

import pytest

from protos.kang.v1 import telemetry_pb2 as pb
from tests.portal.conftest import SignIn
from tests.support.site import Site

pytestmark = pytest.mark.point("P2")


def from_site(site: Site, text: str, *, question: bool) -> str:
    """What arrived from the box of the first community."""
    identifier = uuid.uuid4().hex
    site.app.state.services.dialogue.exchange(site.projects["cuihu"], "edge-cuihu", [pb.Note(id=identifier, at_ms=1, author="li", text=text, question=question)], [])
    return identifier


async def test_staff_write_read_and_answer(site: Site, sign_in: SignIn) -> None:
    operator = await sign_in("operator")
    sent = await operator.post("dialogue", json={"agent_id": "edge-cuihu", "text": "3号泵？", "question": True, "choices": ["好", "坏"]})
    assert (sent.status_code, sent.json()["state"]) == (201, "written")
    asked, told = from_site(site, "几点？", question=True), from_site(site, "已到", question=False)
    assert (await operator.post(f"dialogue/{told}/read")).json()["state"] == "read"
    assert (await operator.post(f"dialogue/{asked}/answer", json={"answer": "三点"})).json()["answered_by"] == "operator"
    listed = (await operator.get("dialogue", params={"agent_id": "edge-cuihu"})).json()
    assert {n["id"]: n["state"] for n in listed} == {sent.json()["id"]: "written", told: "read", asked: "answered"}
    for note, body in ((told, {"answer": "x"}), (asked, {"answer": "again"}), (sent.json()["id"], {"answer": "myself"})):
        refused = await operator.post(f"dialogue/{note}/answer", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "E-NOTE")


@pytest.mark.parametrize("role", ["resident", "finance", "audit_admin", "system_admin", "security_admin"])
async def test_nobody_else_writes(sign_in: SignIn, role: str) -> None:
    client = await sign_in(role)
    assert (await client.post("dialogue", json={"agent_id": "edge-cuihu", "text": "x"})).status_code == 403


async def test_scope_holds(site: Site, sign_in: SignIn) -> None:
    asked = from_site(site, "几点？", question=True)
    site.sessions.register_user("elsewhere", "别处", ["operator"], project_ids=[site.projects["yanqi"]])
    elsewhere = await sign_in("elsewhere")
    assert (await elsewhere.get("dialogue")).json() == []
    assert (await elsewhere.post("dialogue", json={"agent_id": "edge-cuihu", "text": "x"})).status_code == 404
    assert (await elsewhere.post(f"dialogue/{asked}/answer", json={"answer": "x"})).json()["code"] == "E-NOTE"
    assert (await elsewhere.get("dialogue", params={"project_id": site.projects["cuihu"]})).status_code == 404


@pytest.mark.parametrize("body", [{}, {"agent_id": "edge-cuihu", "text": ""}, {"agent_id": "edge-cuihu", "text": "x" * 501}, {"agent_id": "edge-cuihu", "text": "x", "choices": ["a"]},
                                  {"agent_id": "edge-cuihu", "text": "x", "more": 1}])
async def test_what_is_no_note_is_refused(sign_in: SignIn, body: dict) -> None:
    assert (await (await sign_in("operator")).post("dialogue", json=body)).status_code == 422
