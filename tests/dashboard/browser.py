"""A real browser on a real relay, which fails a test for what a person would never see: errors in
the console, what the policy refused, and requests to anybody else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Request

from tests.support.relay import ROOT, RunningRelay

#: Deque's axe-core 4.14.1, MPL-2.0 (its header says so): only tests carry it.
AXE = Path(__file__).with_name("axe.min.js")
#: None where it is not installed.
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DEADLINE_MS = 20_000
#: How often a page with violations is looked at again.
LOOKS = 4
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}


@dataclass
class Site:
    """A running relay as a customer's browser sees it."""

    relay: RunningRelay
    _states: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Base, without a slash at its end."""
        return str(self.relay.run["http"])

    def shell(self, code: str) -> str:
        """Run Python inside the relay's project, as an operator's process would; its output."""
        environment = self.relay.environment() | {
            "RELAY_VAR": str(self.relay.var),
            "REDIS_URL": str(self.relay.run["redis_url"]),
        }
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def json(self, code: str) -> Any:
        """The same, of code that prints JSON last."""
        return json.loads(self.shell(code).splitlines()[-1])

    def seeded(self, *names: str) -> Any:
        """What functions of `seeds.py` return, run there, in one process: it takes seconds to
        start."""
        calls = "".join(f"found |= seeds.{name}();" for name in names)
        return self.json(
            "import json; from tests.dashboard import seeds; found = {};"
            f"{calls} print(json.dumps(found))"
        )

    def signed_in(self, browser: Browser) -> Any:
        """The cookies of the demo's customer; signs in the first time only."""
        if "customer" not in self._states:
            context = browser.new_context(base_url=self.url)
            context.set_default_timeout(DEADLINE_MS)
            page = context.new_page()
            sign_in(page, self.relay.run["customer_user"], self.relay.run["customer_password"])
            self._states["customer"] = context.storage_state()
            context.close()
        return self._states["customer"]


def sign_in(page: Page, email: str, password: str) -> None:
    """Through the form, to the dashboard."""
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.locator("main form[action*=login] button").first.click()
    page.wait_for_url("**/app/**")


class Watched:
    """What went on in a context that nobody would see; `assert_clean` at a test's end."""

    def __init__(self, context: BrowserContext, host: str) -> None:
        self.host = host
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.bytes_by_url: dict[str, int] = {}
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.errors.append(f"error: {error.error}"))

    def forgive(self, *texts: str) -> None:
        """Take out errors that a test provokes, by a part of them."""
        self.errors = [line for line in self.errors if not any(text in line for text in texts)]

    def assert_clean(self) -> None:
        assert not self.errors, self.errors
        assert not self.elsewhere, f"asked others: {self.elsewhere}"

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self.host:
            self.elsewhere.append(request.url)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")


def no_serious_violations(page: Page) -> None:
    """axe-core finds nothing serious or critical in what `page` shows now."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    # A theme that has just changed is in every computed colour only once it was drawn, and a busy
    # machine draws late: what is seen once and not again is no fault of the page.
    for _ in range(LOOKS):
        page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        bad = [
            f"{v['id']}: {v['help']}: {[n['html'][:160] for n in v['nodes'][:3]]}"
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        if not bad:
            return
    raise AssertionError(f"{page.url}\n" + "\n".join(bad))


def no_sideways_scroll(page: Page) -> None:
    """The page is no wider than its window."""
    wide, window = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window, f"{page.url} is {wide} px wide in {window} px"
