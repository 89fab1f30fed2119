"""The control matrix pages, made from control_matrix.yaml: `python docs/control_matrix.py` rewrites both; `--check` only says whether they are true.

Must not know: how a control works.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
HEAD = {"en": "# Control matrix\n\nClause by clause: what does it here, and which tests prove it. *part*: some of it; *no*: not in this product, or the operator's own. Clauses that are not listed are not claimed.\n",
        "zh": "# 控制矩阵\n\n逐条列出：由什么机制实现、由哪些测试证明。“部分”为只做到一部分；“无”为产品未提供或由运营单位负责。未列出的条款不作声明。\n"}
COLUMNS = {"en": "| clause | about | state | mechanism | tests |\n|---|---|---|---|---|\n", "zh": "| 条款 | 内容 | 状态 | 机制 | 测试 |\n|---|---|---|---|---|\n"}
STATES = {"en": {"met": "met", "part": "part", "no": "no"}, "zh": {"met": "满足", "part": "部分", "no": "无"}}


def rows() -> dict[str, list[dict[str, Any]]]:
    """Clauses by standard."""
    found: dict[str, list[dict[str, Any]]] = yaml.safe_load((DOCS / "control_matrix.yaml").read_text())
    return found


def page(language: str) -> str:
    """One page."""
    text = HEAD[language]
    for standard, listed in rows().items():
        text += f"\n## {standard}\n\n{COLUMNS[language]}"
        for row in listed:
            tests = "<br>".join(f"`tests/{t}`" for t in row["tests"]) or "-"
            text += f"| {row['clause']} | {row[language]} | {STATES[language][row['state']]} | {row[f'how_{language}']} | {tests} |\n"
    return text


def main() -> int:
    """Write or check both pages."""
    wrong = 0
    for language in ("en", "zh"):
        file, made = DOCS / language / "control-matrix.md", page(language)
        if "--check" in sys.argv:
            wrong += not file.exists() or file.read_text() != made
        else:
            file.write_text(made)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
