"""An mkdocs hook: a Chinese query is searched character by character, as the index was made (mkdocs.yml, `separator`).

The theme's search worker would segment a query with the words of a dictionary that is not there, drop its last character and find nothing
for three or more. Fails the build when the theme changed, so that nobody believes in a search that does not work. Must not know: our pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SEGMENT = re.compile(r'\[\.\.\.\w+\((\w+),this\.index\.invertedIndex\)\]\.join\("\* "\)')


def on_post_build(config: Any, **_: Any) -> None:
    """Let the built worker split a run of Chinese characters into single ones.

    Raises:
        RuntimeError: the theme's worker is not the one this was written for.
    """
    workers = list(Path(config["site_dir"], "assets", "javascripts", "workers").glob("search.*.min.js"))
    for worker in workers:
        text, count = SEGMENT.subn(r'[...\1].join(" ")', worker.read_text(encoding="utf-8"))
        if count == 1:
            worker.write_text(text, encoding="utf-8")
            return
    raise RuntimeError("the theme's search worker changed; look at docs/chinese_search.py")
