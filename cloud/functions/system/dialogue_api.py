"""REST of the dialogue with sites (人机对话). Thin. Must not know: transports."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.params import Line, Whole
from cloud.functions.services import Services, services
from cloud.functions.system.dialogue import DialogueService, NoteError
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal

api = router()
Given = Annotated[Services, Depends(services)]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


#: Text with line breaks and tabs, no other control characters: it is shown on a terminal at the site.
PROSE = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"


class NewNote(BaseModel):
    """A message, or a question with or without choices."""

    model_config = ConfigDict(strict=True, extra="forbid")

    agent_id: Line = Field(min_length=1, max_length=60)
    text: Annotated[str, Field(min_length=1, max_length=500, pattern=PROSE)]
    question: bool = False
    choices: list[Annotated[Line, Field(min_length=1, max_length=60)]] = Field(default_factory=list, max_length=10)


class NewAnswer(BaseModel):
    """What a site's question is answered."""

    model_config = ConfigDict(strict=True, extra="forbid")

    answer: Annotated[str, Field(min_length=1, max_length=500, pattern=PROSE)]


def _service(given: Services) -> DialogueService:
    if given.dialogue is None:
        raise NotFoundError(what="dialogue", name="-")
    return given.dialogue


@api.get("/dialogue")
async def notes(who: Annotated[Principal, operation("system.dialogue.list")], given: Given, project_id: Whole | None = None, agent_id: Annotated[str, Query(max_length=60)] = "",
                before_ms: Whole | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> list[dict[str, Any]]:
    """Messages and questions with their states, newest first."""
    seen = frozenset(p.id for p in given.projects(who))
    if project_id is not None:
        given.project(who, project_id)
        seen &= {project_id}
    return await asyncio.to_thread(_service(given).rows, projects=seen, agent_id=agent_id, before_ms=before_ms, limit=limit)


@api.post("/dialogue", status_code=201)
async def send(body: NewNote, request: Request, who: Annotated[Principal, operation("system.dialogue.send")], given: Given) -> dict[str, Any]:
    """Write to the people at a site; it goes with the agent's next heartbeat."""
    agent = given.directory.agent(body.agent_id)
    if agent is None or not who.sees_project(agent.project_id):
        raise NotFoundError(what="agent", name=body.agent_id)
    request.state.target = f"agents/{body.agent_id}"
    return await asyncio.to_thread(lambda: _service(given).send(agent.project_id, body.agent_id, body.text, who.name, question=body.question, choices=body.choices))


@api.post("/dialogue/{note_id}/read")
async def read(note_id: Id, who: Annotated[Principal, operation("system.dialogue.read")], given: Given) -> dict[str, Any]:
    """A site's note was read."""
    await _mine(given, who, note_id)
    return await asyncio.to_thread(_service(given).read, note_id, who.name)


@api.post("/dialogue/{note_id}/answer")
async def answer(note_id: Id, body: NewAnswer, who: Annotated[Principal, operation("system.dialogue.answer")], given: Given) -> dict[str, Any]:
    """Answer a site's question."""
    await _mine(given, who, note_id)
    return await asyncio.to_thread(_service(given).answer, note_id, body.answer, who.name)


async def _mine(given: Services, who: Principal, note_id: str) -> None:
    found = await asyncio.to_thread(_service(given).one, note_id)
    if found is None or not who.sees_project(found["project_id"]):
        raise NoteError(reason_zh="没有这条消息", reason_en="there is no such note")
