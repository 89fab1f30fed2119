"""The audit search and its export take the same filters: level, result, operator, alone and together."""

from __future__ import annotations

import csv
import io
from itertools import product

import pytest

from cloud.ledger import Ledger
from cloud.security.audit import record
from tests.portal.conftest import Clock, SignIn

LEVELS, RESULTS = ("info", "notice", "warning", "alarm"), ("done", "refused", "failed")
pytestmark = pytest.mark.point("19")


@pytest.fixture
def written(ledger: Ledger, clock: Clock) -> None:
    """One row of each level and result."""
    with ledger.write() as session:
        for k, (level, result) in enumerate(product(LEVELS, RESULTS)):
            record(session, "system.role.grant", at_ms=clock() + k, target=f"people/{level}-{result}", operator="test-subject", level=level, result=result)


@pytest.mark.parametrize("filters", [{}, {"level": "warning"}, {"result": "refused"}, {"level": "alarm", "result": "failed"}, {"result": "accepted"}])
async def test_page_and_export_show_exactly_what_was_asked_for(sign_in: SignIn, written: None, filters: dict[str, str]) -> None:
    auditor = await sign_in("auditor")
    wanted = {f"people/{level}-{result}" for level, result in product(LEVELS, RESULTS) if filters.get("level", level) == level and filters.get("result", result) == result}
    asked = {"operator": "test-subject", **filters}
    found = await auditor.get("audit", params=asked)
    assert found.status_code == 200
    assert {row["target"] for row in found.json()} == wanted
    assert all(row["level"] == filters.get("level", row["level"]) for row in found.json())
    table = list(csv.reader(io.StringIO((await auditor.get("audit/export.csv", params=asked)).text.removeprefix("\ufeff"))))
    assert {row[5] for row in table[1:]} == wanted
    assert {row[4] for row in table[1:]} <= ({filters["level"]} if "level" in filters else set(LEVELS))


async def test_a_level_there_is_not_is_refused(sign_in: SignIn) -> None:
    assert (await (await sign_in("auditor")).get("audit", params={"level": "nothing-like-it"})).status_code == 422
