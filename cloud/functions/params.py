"""Types of the API's parameters: what an integer or a text from outside may be. Must not know: routes, what the parameters mean."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

#: Ids and UTC milliseconds: what a signed 64-bit column of any engine holds.
Whole = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]
#: A moment that is kept, UTC milliseconds: before the year 9999, so that every calendar can name it.
Moment = Annotated[int, Field(ge=0, lt=253_370_764_800_000)]
#: One line of text without control characters.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
