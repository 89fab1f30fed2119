"""The documentation builds, speaks both languages, fetches nothing, and what it names exists in the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from docs import operation_table, settings_table
from edge_agent.cli import main as edge
from edge_agent.templates import DEVICES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p.relative_to(DOCS) for p in DOCS.rglob("*.md"))
LANGUAGES = ("en", "zh")


def text(language: str, name: str) -> str:
    return (DOCS / language / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    return site


def test_every_page_stands_in_both_languages():
    assert {p.relative_to("en") for p in PAGES if p.parts[0] == "en"} == {p.relative_to("zh") for p in PAGES if p.parts[0] == "zh"}
    assert len([p for p in PAGES if p.parts[0] == "en"]) >= 20


def test_a_reader_fetches_nothing_from_outside(built):
    fetched = re.compile(r'<(?:script|img|iframe|source)[^>]+src="(?:https?:)?//|<link[^>]+rel="(?:stylesheet|preconnect|icon|modulepreload)"[^>]+href="(?:https?:)?//|@import|url\(\s*["\']?https?:')
    pages = [*built.rglob("*.html"), *built.rglob("assets/*.css")]
    assert len(pages) > 40
    assert [str(p) for p in pages if fetched.search(p.read_text(encoding="utf-8"))] == []


def test_a_chinese_query_is_searched_character_by_character(built):
    worker = next((built / "assets" / "javascripts" / "workers").glob("search.*.min.js")).read_text(encoding="utf-8")
    assert '[...s].join(" ")' in worker
    index = json.loads((built / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert "[\\u4e00-\\u9fff]" in index["config"]["separator"]
    assert any("隔离区" in page["text"] for page in index["docs"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_settings_table_is_what_the_code_says(language):
    _, found, wanted = settings_table.page(language)
    assert found == wanted, "run python docs/settings_table.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_operation_table_is_what_the_guard_keeps(language):
    assert text(language, "operation-table.md") == operation_table.page(language), "run python docs/operation_table.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_direct_dependency_has_a_line(language):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], *project["dependency-groups"]["dev"]]
    for group in project["project"]["optional-dependencies"].values():
        wanted += group
    names = {re.match(r"[A-Za-z0-9._-]+", w)[0].lower() for w in wanted} - {"kang"}
    named = set(re.findall(r"^\| `([^`]+)` \|", text(language, "dependencies.md"), re.MULTILINE))
    web = json.loads((ROOT / "cloud/portal/web/package.json").read_text())["dependencies"]
    assert names - named == set()
    assert named - names - set(web) == {"uv"}
    assert set(web) <= named


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_field_of_template_and_site_is_explained(language):
    source = (ROOT / "edge_agent" / "templates.py").read_text()
    fields = set(re.findall(r'"(\w+)"', re.search(r"self\._mapping\(at, \{(\"template\".*?)\}\)", source, re.DOTALL)[1]))
    fields |= set(re.findall(r'"(\w+)"', re.search(r"self\._mapping\(at, \{(\"point\".*?)\}\)", source, re.DOTALL)[1]))
    page = text(language, "templates.md")
    assert {f for f in fields if f"`{f}`" not in page} == set()
    config = (ROOT / "edge_agent" / "config.py").read_text()
    read = set(re.findall(r'_(?:number|text)\(data, "(\w+)"', config)) - {"address", "url"}
    page = text(language, "connect-a-device.md")
    assert {f for f in read if f"`{f}`" not in page} == set()


def test_named_make_targets_and_commands_exist():
    words = "\n".join((DOCS / p).read_text(encoding="utf-8") for p in PAGES) + (ROOT / "README.md").read_text() + (ROOT / "README.zh-CN.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", words, re.MULTILINE)) <= targets
    cli = "".join(f.read_text() for f in sorted((ROOT / "cloud").glob("cli*.py")))
    known = set(re.findall(r'add_parser\("([a-z-]+)"', cli))
    named = {m[1] for m in re.finditer(r"(?:`|^ {4})kang (?:--home \S+ )?([a-z-]+)", words, re.MULTILINE)}
    assert named - {"backup"} <= known  # "there is no `kang backup` yet"
    assert "backup" not in known
    known = set(re.findall(r'add_parser\("([a-z-]+)"', (ROOT / "edge_agent" / "cli.py").read_text()))
    assert set(re.findall(r"(?:`|^ {4})kang-edge ([a-z-]+)", words, re.MULTILINE)) <= known


@pytest.mark.parametrize("language", LANGUAGES)
def test_named_error_codes_exist(language):
    codes = set()
    for folder in ("cloud", "edge_agent", "protos", "optimizers"):
        for file in (ROOT / folder).rglob("*.py"):
            codes |= set(re.findall(r"\bE-[A-Z]+(?:-[A-Z]+)*", file.read_text(encoding="utf-8")))
    named = {c for p in PAGES if p.parts[0] == language for c in re.findall(r"\bE-[A-Z]+(?:-[A-Z]+)*", (DOCS / p).read_text(encoding="utf-8"))}
    assert named
    assert named <= codes


@pytest.mark.parametrize("language", LANGUAGES)
def test_named_counters_exist(language):
    page = text(language, "operations.md")
    portal = (ROOT / "cloud/portal/app.py").read_text() + (ROOT / "cloud/portal/metrics.py").read_text()
    for name in re.findall(r"`kang_portal_([a-z_]+)", page):
        assert f'"{name}"' in portal or f"kang_portal_{name}" in portal, name
    edge_code = "".join((ROOT / "edge_agent" / f).read_text() for f in ("agent.py", "cli.py", "uplink/link.py", "commands/actuation.py"))
    line = next(row for row in page.splitlines() if "`kang_edge_reads`" in row)
    for name in re.findall(r"`_([a-z_]+)`", line):
        assert name in edge_code or (name.startswith("writes_") and f'"{name[7:]}"' in edge_code), name


def test_screenshots_are_small_and_shown():
    shots = sorted((DOCS / "assets" / "shots").glob("*.png"))
    assert len(shots) == 10
    for shot in shots:
        assert shot.stat().st_size <= 120_000
        assert shot.name in text(shot.name[:2], "tour.md")


def test_shipped_templates_are_as_many_as_the_page_says(capsys):
    assert len(list(DEVICES.glob("*.yaml"))) == 11
    assert edge(["test-device", str(DOCS / "examples" / "feeder_meter.yaml")]) == 0
    assert "3 samples, ok" in capsys.readouterr().out


def test_navigation_names_every_decision():
    class Loader(yaml.SafeLoader):
        pass
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]
    named = set(re.findall(r"'((?:en|zh)/decisions/[^']+)'", str(nav)))
    assert named == {str(p) for p in PAGES if "decisions" in p.parts}
