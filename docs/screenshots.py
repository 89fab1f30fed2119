"""Takes the tour's screenshots from a running demo: `python docs/screenshots.py http://localhost:8420/signin?code=...` (an engineer's link).

Writes docs/assets/shots/<language>-<page>.png, 1280 wide, reduced to a palette. Must not know: what the pages show.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Page, async_playwright

SHOTS = Path(__file__).parent / "assets" / "shots"
LIMIT = 120_000


async def main(link: str) -> None:
    """Sign in once, then walk the pages in both languages."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    base = "{0.scheme}://{0.netloc}".format(urlsplit(link))
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(link)
        await page.wait_for_selector(".sentence b")
        state = await context.storage_state()
        for language, locale in (("zh", "zh-CN"), ("en", "en-GB")):
            context = await browser.new_context(storage_state=state, base_url=base, locale=locale, timezone_id="Asia/Shanghai", color_scheme="light", reduced_motion="reduce",
                                                viewport={"width": 1280, "height": 860})
            page = await context.new_page()
            projects = await (await context.request.get("/api/v1/projects")).json()
            project = next(p["id"] for p in projects if p["name_en"].startswith("Qinghe"))
            boilers = await (await context.request.get(f"/api/v1/devices?project_id={project}&profile=electric_boiler")).json()
            for name, path in (("overview", "/"), ("project", f"/projects/{project}"), ("device", f"/devices/{boilers['rows'][0]['id']}"), ("alarms", "/alarms"), ("agents", "/agents")):
                await page.goto(path)
                await page.wait_for_selector("h1, .sentence b")
                await page.wait_for_selector("[aria-busy=true]", state="detached")
                await page.wait_for_timeout(2500)
                if name == "device":
                    await command(page, 58.0 if language == "zh" else 57.0)
                await save(page, SHOTS / f"{language}-{name}.png")
            await context.close()
        await browser.close()


async def command(page: Page, value: float) -> None:
    """Send a set-point and wait until it is read back."""
    field = page.locator("input[type=number]").first
    await field.fill(f"{value:g}")
    await page.get_by_role("button", name="Set", exact=True).or_(page.get_by_role("button", name="下发", exact=True)).first.click()
    await page.wait_for_selector(".progress.verified", timeout=30_000)


async def save(page: Page, file: Path) -> None:
    """A palette PNG below the limit."""
    from PIL import Image

    await page.screenshot(path=file)
    with Image.open(file) as full:
        for colours in (128, 64, 32):
            full.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
            if file.stat().st_size <= LIMIT:
                break
    print(file.name, file.stat().st_size)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
