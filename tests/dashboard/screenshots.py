"""`make screenshots`: every page of `screens.py`, light, dark and on a phone, to var/screenshots.

With names as arguments, those pages only. The relay is one of its own, begun and seeded for it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.dashboard.browser import CHROMIUM, DEADLINE_MS, DESKTOP, PHONE, Site
from tests.dashboard.screens import SCREENS, SEEDS, Screen
from tests.support.relay import ROOT, RunningRelay

OUT = ROOT / "var" / "screenshots"
KINDS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
}


def seeded(site: Site) -> dict[str, Any]:
    """Run the seeds; the names that paths may use."""
    names: dict[str, Any] = site.seeded(*SEEDS)
    return names


def shoot(site: Site, browser: Browser, screens: list[Screen], names: dict[str, Any]) -> None:
    """One file a page and kind."""
    for kind, options in KINDS.items():
        for is_signed_in in (True, False):
            state = {"storage_state": site.signed_in(browser)} if is_signed_in else {}
            context = browser.new_context(base_url=site.url, **options, **state)
            context.set_default_timeout(DEADLINE_MS)
            page = context.new_page()
            for screen in screens:
                if screen.is_signed_in is is_signed_in:
                    page.goto(screen.path.format(**names))
                    if screen.wait_for:
                        page.wait_for_selector(screen.wait_for)
                    page.screenshot(path=OUT / f"{screen.name}-{kind}.png", full_page=True)
            context.close()


@contextmanager
def running() -> Iterator[Site]:
    """A relay in a folder that is thrown away."""
    folder = Path(tempfile.mkdtemp(prefix="hlrelay-screens-"))
    relay = RunningRelay(folder / "var", RELAY_WEBHOOKS_PRIVATE="1")
    try:
        relay.start()
        yield Site(relay)
    finally:
        relay.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(wanted: list[str]) -> None:
    """Of all pages, or those whose names are given."""
    if unknown := set(wanted) - {screen.name for screen in SCREENS}:
        raise SystemExit(f"no such pages: {', '.join(sorted(unknown))}")
    screens = [screen for screen in SCREENS if not wanted or screen.name in wanted]
    OUT.mkdir(parents=True, exist_ok=True)
    with running() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shoot(site, browser, screens, seeded(site))
        browser.close()
    sys.stdout.write(f"{len(screens) * len(KINDS)} pictures in {OUT}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
