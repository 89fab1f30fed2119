"""Every text colour of the portal passes WCAG 2.2 AA (4.5 : 1) on every ground it stands on, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOKENS = (Path(__file__).parents[2] / "cloud" / "portal" / "web" / "src" / "tokens.css").read_text()
TEXT = ("ink", "ink-2", "ink-3", "heat-ink", "electricity-ink", "storage-ink", "comfort-ink", "grid-ink", "critical", "major", "minor", "warning", "info")
GROUNDS = ("ground", "surface", "raised", "sunk")


def theme(dark: bool) -> dict[str, str]:
    """The tokens of a theme; night overrides day."""
    blocks = re.findall(r"(:root|\[data-theme='dark'\]) \{(.*?)\n\}", TOKENS, re.DOTALL)
    found: dict[str, str] = {}
    for selector, body in blocks:
        if selector == ":root" or dark:
            found |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", body))
    return found


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("text", TEXT)
@pytest.mark.parametrize("ground", GROUNDS)
def test_text_is_readable(dark: bool, text: str, ground: str) -> None:
    colours = theme(dark)
    light, deep = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (deep + 0.05) >= 4.5, f"--{text} {colours[text]} on --{ground} {colours[ground]}"
