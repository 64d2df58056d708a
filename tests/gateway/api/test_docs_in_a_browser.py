"""`/v1/docs` in Debian's Chromium: Swagger UI works under a policy that allows nothing inline, asks
no other host, and a key that is typed in opens the account."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.conftest import skip
from tests.gateway.api.test_api_page import MAKE
from tests.support.edge import Edge
from tests.support.environment import VAR

DEADLINE_MS = 30_000


@pytest.fixture(scope="module")
def edge(redis_url: str) -> Iterator[Edge]:
    edge = Edge(VAR / "swagger-edge", redis_url=redis_url.removesuffix("/0") + "/6")
    edge.start()
    yield edge
    edge.stop()


@pytest.fixture
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(DEADLINE_MS)
        yield page
        browser.close()


def test_it_works_under_a_strict_policy(edge: Edge, page: Page) -> None:
    raw_key, troubles, asked = edge.shell(MAKE), [], []
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    base = f"http://127.0.0.1:{edge.port}"
    page.goto(f"{base}/v1/docs")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() >= 40

    page.click("button.authorize")
    page.locator(".auth-container input").first.fill(raw_key)
    page.locator(".auth-btn-wrapper button.authorize").first.click()
    page.click(".btn-done")
    operation = page.locator(".opblock", has_text="/v1/account").first
    operation.locator(".opblock-summary").click()
    operation.locator("button.try-out__btn").click()
    operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table tr.response .response-col_status").first
    answer.wait_for()
    assert "200" in answer.inner_text()

    assert troubles == []
    assert {url.split("/", 3)[2] for url in asked if url.startswith("http")} == {
        base.removeprefix("http://")
    }
