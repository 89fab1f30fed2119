"""Every page opens without a console error, in both languages, both themes and on a phone; a command is followed to its end.

Needs Debian's Chromium (`apt-get install chromium fonts-noto-cjk`) and built pages (`python hatch_build.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from sqlalchemy import text

from cloud.functions.system.audit_desk import AuditDesk
from cloud.ledger import Ledger
from cloud.security.audit_writer import Chainer
from tests.support.site import STATIC, Site, build, furnish

pytestmark = pytest.mark.browser
PAGES: dict[str, Callable[[Site], str]] = {
    "overview": lambda _s: "/", "project": lambda s: f"/projects/{s.projects['cuihu']}", "plan": lambda s: f"/projects/{s.projects['cuihu']}/plan", "rooms_only": lambda s: f"/projects/{s.projects['liulin']}",
    "devices": lambda _s: "/devices", "device": lambda s: f"/devices/{s.device('cuihu', 'EB1')}", "tank": lambda s: f"/devices/{s.device('cuihu', 'TK1')}",
    "locked": lambda s: f"/devices/{s.device('yanqi', 'HP2')}", "alarms": lambda _s: "/alarms", "past": lambda _s: "/alarms?state=past",
    "quarantine": lambda _s: "/quarantine", "agents": lambda _s: "/agents", "commands": lambda _s: "/commands", "log": lambda _s: "/log",
    "catalogue": lambda _s: "/catalogue", "settings": lambda _s: "/settings", "nowhere": lambda _s: "/no/such/page"}


@dataclass
class Stage:
    """A served portal and a browser that is signed in as the engineer."""

    site: Site
    address: str
    browser: Browser
    state: Path
    chain: Chainer

    async def page(self, **options: object) -> tuple[BrowserContext, Page, list[str]]:
        """A fresh page and the list its errors go to."""
        context = await self.browser.new_context(storage_state=str(self.state), base_url=self.address, **options)  # type: ignore[arg-type]
        page = await context.new_page()
        return context, page, listen(page)


def listen(page: Page) -> list[str]:
    """Console errors, page errors and failed answers of a page."""
    found: list[str] = []
    page.on("console", lambda m: found.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: found.append(f"page: {e}"))
    page.on("response", lambda r: found.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    return found


async def until(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true (`wait_for_function` needs eval, which the portal's policy forbids)."""
    async with asyncio.timeout(10):
        while not await page.evaluate(expression):  # noqa: ASYNC110 - the page cannot signal
            await asyncio.sleep(0.05)


def chromium() -> str:
    """Where Chromium is; its absence fails clearly."""
    found = os.environ.get("KANG_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "no Chromium: apt-get install chromium fonts-noto-cjk, or leave these out with -m 'not browser'"
    return found


@pytest.fixture
async def stage(ledger: Ledger, tmp_path: Path) -> AsyncIterator[Stage]:
    assert (STATIC / "index.html").exists(), "the pages are not built: run `python hatch_build.py`"
    key = Ed25519PrivateKey.generate()
    chain = Chainer(ledger, key, tmp_path / "audit")
    desk = AuditDesk(ledger, key.public_key().public_bytes_raw(), tmp_path / "audit", tmp_path / "control.sqlite")
    site = build(ledger, step_s=0.05, static=STATIC, demo=True, audit=desk)
    furnish(site)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(site.app, host="127.0.0.1", port=port, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
    address = f"http://127.0.0.1:{port}"
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        context = await browser.new_context(base_url=address)
        page = await context.new_page()
        await page.goto(f"/signin?code={site.sessions.issue_code('engineer')}")
        await page.wait_for_selector(".sentence b")
        state = tmp_path / "state.json"
        await context.storage_state(path=state)
        await context.close()
        yield Stage(site, address, browser, state, chain)
        await browser.close()
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def visit(stage: Stage, *, width: int, height: int, locale: str, scheme: str) -> None:
    """Open every page; collect what goes wrong and what is wider than the window."""
    context, page, errors = await stage.page(viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme, reduced_motion="reduce")
    for name, path in PAGES.items():
        await page.goto(path(stage.site))
        await page.wait_for_selector("h1, .sentence b", timeout=8000)
        await page.wait_for_selector("[aria-busy=true]", state="detached", timeout=8000)
        wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name}: {wide} px wider than the window"
        raw = await page.evaluate(r"document.body.innerText.match(/\b(nav|col|state|act|word|profile|kind|condition)\.[a-z_]+\b|undefined|NaN|\[object/g)")
        assert raw is None, f"{name}: shows {raw}"
        assert errors == [], f"{name}: {errors}"
    await context.close()


@pytest.mark.parametrize(("width", "height", "locale", "scheme"), [
    (1440, 900, "zh-CN", "light"), (1440, 900, "en-GB", "dark"), (390, 844, "zh-CN", "dark"), (390, 844, "en-GB", "light")])
async def test_every_page_opens_without_an_error(stage: Stage, width: int, height: int, locale: str, scheme: str) -> None:
    await visit(stage, width=width, height=height, locale=locale, scheme=scheme)


PEOPLE = {"system_admin": ("/people", "/people/5", "/organisations", "/approvals", "/operations", "/security"), "security_admin": ("/people/5", "/sessions", "/approvals"), "resident": ("/security",)}


@pytest.mark.parametrize(("width", "height", "locale", "scheme"), [(1440, 900, "zh-CN", "light"), (390, 844, "en-GB", "dark")])
async def test_pages_of_people_open_and_each_role_sees_only_its_menu(stage: Stage, width: int, height: int, locale: str, scheme: str) -> None:
    for role, paths in PEOPLE.items():
        context = await stage.browser.new_context(base_url=stage.address.replace("127.0.0.1", "localhost"), viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme)
        page, errors = await context.new_page(), []
        page.on("console", lambda m, found=errors: found.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e, found=errors: found.append(str(e)))
        await page.goto(f"/signin?code={stage.site.sessions.issue_code(role)}")
        await page.wait_for_selector(".shell h1")
        links = set(await page.eval_on_selector_all("aside nav a", "all => all.map((a) => a.getAttribute('href'))"))
        assert ("/people" in links) == (role != "resident") and ("/sessions" in links) == (role == "security_admin")
        assert not links & ({"/", "/alarms", "/devices", "/commands", "/log"} if role != "resident" else {"/", "/commands", "/log", "/approvals"})
        for path in paths:
            await page.goto(path)
            await page.wait_for_selector("h1")
            await page.wait_for_selector("[aria-busy=true]", state="detached")
            assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, path
            assert errors == [], f"{role} {path}: {errors}"
        await context.close()


async def test_an_authenticator_is_bound_and_a_stale_proof_asks_and_goes_on(stage: Stage) -> None:
    """From my security to the step-up dialog: the refused command is sent by itself once the code is right."""
    import time

    import pyotp

    context, page, _ = await stage.page(locale="en-GB", viewport={"width": 1440, "height": 900})
    await page.goto("/security")
    await page.get_by_role("button", name="Bind", exact=True).click()
    await page.wait_for_selector(".qr img")
    secret = (await page.locator(".qr .mono").inner_text()).strip()
    await page.get_by_label("Six digits").fill(pyotp.TOTP(secret).at(time.time() - 30))
    await page.get_by_role("button", name="Confirm").click()
    await page.wait_for_selector(".papers li")
    assert await page.locator(".papers li").count() == 10
    with stage.site.ledger.write() as session:
        session.execute(text("UPDATE user_session SET factor_ms = factor_ms - 4000000"))
    stage.site.sessions.forget()
    await page.goto(f"/devices/{stage.site.device('cuihu', 'EB2')}")
    await page.locator("input[type=number]").first.fill("61")
    await page.get_by_role("button", name="Set", exact=True).first.click()
    await page.wait_for_selector("[role=dialog]")
    await page.locator("[role=dialog] input").fill(pyotp.TOTP(secret).at(time.time()))
    await page.get_by_role("button", name="Verify and go on").click()
    await page.wait_for_selector(".progress.verified", timeout=8000)
    assert stage.site.commands.requests[0].value == 61.0
    await context.close()


async def test_a_command_becomes_its_own_progress_and_is_verified(stage: Stage) -> None:
    context, page, errors = await stage.page(locale="en-GB", viewport={"width": 1440, "height": 900})
    await page.goto(f"/devices/{stage.site.device('cuihu', 'EB2')}")
    await page.get_by_role("spinbutton", name="Leaving set-point").or_(page.locator("input[type=number]").first).first.fill("61")
    await page.get_by_role("button", name="Set", exact=True).first.click()
    await page.wait_for_selector(".progress.verified", timeout=8000)
    assert await page.locator(".progress.verified li.done").count() == 5
    assert stage.site.commands.requests[0].value == 61.0
    assert errors == []
    await context.close()


async def test_a_value_that_the_template_forbids_is_refused_before_it_is_sent(stage: Stage) -> None:
    context, page, _ = await stage.page(locale="en-GB", viewport={"width": 1440, "height": 900})
    await page.goto(f"/devices/{stage.site.device('cuihu', 'EB2')}")
    await page.locator("input[type=number]").first.fill("99")
    await page.wait_for_selector(".panel .bad")
    assert "outside the allowed" in await page.locator(".panel .bad").first.inner_text()
    assert await page.get_by_role("button", name="Set", exact=True).first.is_disabled()
    assert stage.site.commands.requests == []
    await context.close()


async def test_live_values_move_on_the_page_without_a_reload(stage: Stage) -> None:
    context, page, errors = await stage.page(locale="en-GB", viewport={"width": 1440, "height": 900})
    device = stage.site.device("cuihu", "EB2")
    await page.goto(f"/devices/{device}")
    await page.wait_for_selector(".tile")
    stage.site.historian.plant.overrides[device, 1] = 777.0
    await until(page, "document.querySelector('.tile .v').textContent.includes('777')")
    assert errors == []
    await context.close()


async def test_an_ended_session_leads_back_to_the_door_and_then_to_the_page(stage: Stage) -> None:
    context, page, _ = await stage.page(locale="en-GB")
    await page.goto("/agents")
    await page.wait_for_selector("article")
    stage.site.sessions.disable_user("engineer")
    await page.wait_for_url("**/signin?**", timeout=15000)
    assert "The session has ended" in await page.locator(".note").inner_text()
    await context.close()


async def test_the_filter_chips_stand_in_the_address(stage: Stage) -> None:
    context, page, errors = await stage.page(locale="en-GB", viewport={"width": 1440, "height": 900})
    await page.goto("/devices")
    await page.get_by_role("button", name="Heat pump").first.click()
    await page.wait_for_url("**profile=heat_pump**")
    await until(page, "document.querySelectorAll('.tr').length === 3")
    await page.reload()
    await until(page, "document.querySelectorAll('.tr').length === 3")
    assert errors == []
    await context.close()


async def test_first_load_stays_below_its_budget(stage: Stage) -> None:
    context, page, _ = await stage.page(locale="en-GB")
    sizes: list[int] = []
    page.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))) if "/assets/" in r.url and "charts" not in r.url else None)
    await page.goto("/devices")
    await page.wait_for_selector(".tr")
    assert 0 < sum(sizes) <= 450 * 1024
    await context.close()


class Road:
    """A TCP road to the portal that can freeze: connections stay open and nothing passes, as behind a hung server or a dead link."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        except (OSError, asyncio.CancelledError):
            writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            await self.free.wait()
            sink.write(piece)
            await sink.drain()
        sink.close()


async def test_a_hung_portal_is_shown_as_lost_and_found_again(stage: Stage) -> None:
    road = Road(int(stage.address.rpartition(":")[2]))
    server = await asyncio.start_server(road, "127.0.0.1", 0)
    context, page, _ = await stage.page(locale="en-GB", viewport={"width": 1440, "height": 900})
    await page.goto(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/devices/{stage.site.device('cuihu', 'EB2')}")
    await page.wait_for_selector(".tile .v")
    assert await page.locator(".bar[role=status]").count() == 0
    road.free.clear()
    bar = await page.wait_for_selector(".bar[role=status]", timeout=16_000)
    assert bar is not None and re.search(r"since \d\d:\d\d:\d\d", await bar.inner_text())
    await until(page, "document.querySelectorAll('.tile').length > 0 && document.querySelectorAll('.tile:not(.stale)').length === 0")
    road.free.set()
    await page.wait_for_selector(".bar[role=status]", state="detached", timeout=16_000)
    await until(page, "document.querySelectorAll('.tile:not(.stale)').length > 0")
    await context.close()
    server.close()


@pytest.mark.parametrize(("width", "height", "locale", "scheme"), [(1440, 900, "zh-CN", "light"), (390, 844, "en-GB", "dark")])
async def test_pages_of_audit_and_interfaces_open_and_work(stage: Stage, width: int, height: int, locale: str, scheme: str) -> None:
    """The auditor searches; the security administrator registers a client, tries it and ends it; the secret is shown once."""
    made = stage.site.clients.register("已有系统", ["monitoring.history.read"], project_ids=[stage.site.projects["cuihu"]], hidden_fields=["address"], actor="security_admin")[0]
    chinese = locale.startswith("zh")
    for role, paths in {"audit_admin": ("/audit", "/audit?remote=1&result=done", "/network", "/interfaces"), "security_admin": ("/network", "/interfaces")}.items():
        context = await stage.browser.new_context(base_url=stage.address.replace("127.0.0.1", "localhost"), viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme)
        page = await context.new_page()
        errors = listen(page)
        await page.goto(f"/signin?code={stage.site.sessions.issue_code(role)}")
        await page.wait_for_selector(".shell h1, .sentence b")
        errors.clear()
        for path in paths:
            await page.goto(path)
            await page.wait_for_selector("h1")
            await page.wait_for_selector("[aria-busy=true]", state="detached")
            assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, path
            raw = await page.evaluate(r"document.body.innerText.match(/\b(nav|col|audit|network|client|flow|zone|priority|channel)\.[a-z_0-9]+\b|undefined|NaN|\[object/g)")
            assert raw is None, f"{path}: shows {raw}"
            assert errors == [], f"{role} {path}: {errors}"
            if folder := os.environ.get("KANG_SHOTS"):
                await page.screenshot(path=f"{folder}/{role}{path.partition('?')[0].replace('/', '-')}-{width}-{locale}.png")
        if role == "audit_admin":
            await page.goto("/audit")
            await page.locator(".tr").first.click()
            await page.wait_for_selector("section dl.facts")
            assert made["id"] in await page.locator(".vt").inner_text() or width < 720
            stage.chain.step()
            await page.get_by_role("button", name="校验审计链" if chinese else "Verify the chain").click()
            await page.wait_for_selector(".verdict")
            assert "完整" in await page.locator(".verdict").inner_text() if chinese else "Whole" in await page.locator(".verdict").inner_text()
        else:
            await page.get_by_role("button", name="登记客户端" if chinese else "Register a client").click()
            form = page.locator("form.card")
            await form.locator("input").first.fill("第三方能耗平台")
            await form.get_by_role("button", name="全部项目" if chinese else "All projects").click()
            await form.locator(".chip[title='monitoring.history.read']").click()
            await form.get_by_role("button", name="登记" if chinese else "Register", exact=True).click()
            await page.wait_for_selector("section.once")
            await until(page, "document.querySelectorAll('article').length === 2")
            if folder := os.environ.get("KANG_SHOTS"):
                await page.screenshot(path=f"{folder}/client-made-{width}-{locale}.png", full_page=True)
            card = page.locator("article").nth(1)
            await card.get_by_role("button", name="试调" if chinese else "Test call").click()
            await page.wait_for_selector(".tested li")
            await card.get_by_role("button", name="停用" if chinese else "Disable", exact=True).click()
            await card.get_by_role("button", name="确认停用" if chinese else "Yes, disable").click()
            await card.locator(".tag.disabled").wait_for()
            assert [c["disabled"] for c in stage.site.clients.listing()] == [False, True]
            assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
            assert errors == []
        await context.close()
