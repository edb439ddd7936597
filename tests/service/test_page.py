"""The page in headless Chromium: a list, and how it came about, by keyboard, at two widths and in two themes."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from serving import dataset, make_service, reflecting
from tiny import tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_grc
from redraft.recommender import SelfCorrectingRecommender
from redraft.service.app import create_app
from redraft.service.keys import Keys
from redraft.service.served import Servable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install Debian's package to look at the page")


def correcting() -> Servable:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30, n_attributes=2)
    model = with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), 0)
    return SelfCorrectingRecommender(model, ids, catalogue, beams=12)


@contextmanager
def served(folder: Path, model: Servable) -> Iterator[str]:
    """A running service, and its address."""
    service = make_service(folder, model=model, known=dataset(timed=True), deadline=60.0)
    server = uvicorn.Server(uvicorn.Config(create_app(service, Keys({})), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


LOOKS = [
    ("corrected", correcting, 1200, "light"),
    ("judged", reflecting, 390, "dark"),
]


@pytest.mark.parametrize(("kind", "make", "width", "theme"), LOOKS, ids=[look[0] for look in LOOKS])
def test_a_list_and_its_reasons_by_keyboard(
    kind: str, make: Callable[[], Servable], width: int, theme: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect, sync_playwright

    with served(tmp_path, make()) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.set_default_timeout(60_000)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on(
            "request", lambda asked: wrong.append(asked.url) if not asked.url.startswith((address, "data:")) else None
        )
        page.goto(address)
        page.get_by_label("User").fill("user-9")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("10 items for user-9", timeout=60_000)
        expect(page.locator("#history > li")).to_have_count(12, timeout=60_000)
        buttons = page.get_by_role("button", name="How it came about")
        expect(buttons).to_have_count(10)
        for place in range(3):
            buttons.nth(place).focus()
            page.keyboard.press("Enter")
            expect(buttons.nth(place)).to_have_attribute("aria-expanded", "true", timeout=60_000)
        assert page.locator("#list svg[role=img][aria-label*='codes']").count() >= 3
        assert page.locator("#list svg[aria-label*='evidence']").count() == (3 if kind == "judged" else 0)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
        page.screenshot(
            path=Path(os.environ.get("REDRAFT_SCREENSHOTS", tmp_path)) / f"{kind}-{width}-{theme}.png", full_page=True
        )
        page.get_by_label("User").fill("")
        page.get_by_label("or items, oldest first").fill("item-1 nothing")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("item 'nothing' is not in the catalogue", timeout=60_000)
        page.get_by_label("or items, oldest first").fill("item-1 item-2")
        page.get_by_label("and their times").fill("1000")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("one for each of its items", timeout=60_000)
        page.get_by_label("and their times").fill("1000 2000")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("10 items for 2 items", timeout=60_000)
        browser.close()
    assert [line for line in wrong if "422" not in line] == []
