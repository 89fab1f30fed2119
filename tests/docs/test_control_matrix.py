"""The control matrix says what is true: its pages are generated, and every test it names exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs import control_matrix

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_pages_are_what_the_file_says(language: str) -> None:
    assert (ROOT / "docs" / language / "control-matrix.md").read_text() == control_matrix.page(language), "run python docs/control_matrix.py"


def test_every_named_test_exists_and_every_claim_names_one() -> None:
    named = 0
    for standard, rows in control_matrix.rows().items():
        assert len({row["clause"] for row in rows}) == len(rows), standard
        for row in rows:
            assert bool(row["tests"]) == (row["state"] in ("met", "part")), row["clause"]
            for test in row["tests"]:
                file, _, name = test.partition("::")
                tree = ast.parse((ROOT / "tests" / file).read_text())
                assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}, test
                named += 1
    assert named > 30
