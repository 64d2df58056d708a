"""Every page, as data: what `make screenshots` shows and `test_screens.py` looks at.

A new page adds a row; one that needs rows of the database to look like anything adds to `SEEDS`.
"""

from __future__ import annotations

from typing import NamedTuple


class Screen(NamedTuple):
    """A page by name: its path, and whether the demo's customer is signed in. `{slug}` is the
    demo's tenant, other braces are what the seeds printed."""

    name: str
    path: str
    is_signed_in: bool = True
    #: A selector that is there once the page is drawn, if it is not at once.
    wait_for: str = ""


SCREENS: tuple[Screen, ...] = (
    Screen("sign-in", "/accounts/login/", is_signed_in=False),
    Screen("sign-up", "/accounts/signup/", is_signed_in=False),
    Screen("password-reset", "/accounts/password/reset/", is_signed_in=False),
    Screen("email", "/accounts/email/"),
    Screen("second-factor", "/accounts/2fa/"),
    Screen("not-found", "/app/no-such/"),
    Screen("overview", "/app/{slug}/"),
    Screen("usage", "/app/{metered}/usage", wait_for="#chart[data-is-drawn]"),
    Screen("usage-empty", "/app/{slug}/usage?range=custom&start=2026-01-01&end=2026-01-02"),
    Screen("usage-by-coin", "/app/{metered}/usage?by=coin&range=7d&metric=bytes"),
    Screen("usage-refused", "/app/{metered}/usage?range=custom&start=2026-01-09&end=2026-01-02"),
    Screen("receipts", "/app/{metered}/usage/receipts", wait_for="[data-check]"),
    Screen("estimator", "/app/{metered}/estimator"),
    Screen(
        "estimator-answer",
        "/app/{metered}/estimator?channel=l2Book&channel=trades&coin=BTC&coin=ETH",
    ),
    Screen("alerts", "/app/{metered}/alerts"),
    Screen("webhooks", "/app/{metered}/webhooks"),
    Screen("webhook", "/app/{metered}/webhooks/{webhook}"),
    Screen("webhook-delivery", "/app/{metered}/webhooks/deliveries/{delivery}"),
)

#: Python that is run inside the project before the first picture, each in a process of its own.
#: What the last line prints is JSON, an object whose names paths may use.
SEEDS: list[str] = ["from tests.dashboard.metered import main; main()"]
