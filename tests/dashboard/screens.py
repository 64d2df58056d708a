"""Every page, as data: what `make screenshots` shows and `test_screens.py` looks at.

A new page adds a row; one that needs rows of the database to look like anything adds to `SEEDS`.
"""

from __future__ import annotations

from typing import NamedTuple


class Screen(NamedTuple):
    """A page by name: its path, and whether the demo's customer is signed in. What stands in braces
    (`{slug}`, `{key_id}`) the seeds have told."""

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
    Screen("keys", "/app/{slug}/keys/"),
    Screen("key-new", "/app/{slug}/keys/new"),
    Screen("key", "/app/{slug}/keys/{key_id}/"),
    Screen("overview", "/app/{slug}/", wait_for="[data-figure=connections]"),
    Screen("start", "/app/{slug}/start/", wait_for="[data-console][data-state=live]"),
    Screen("landing", "/", is_signed_in=False),
    Screen("status", "/status/", is_signed_in=False),
    Screen("gaps", "/status/gaps/", is_signed_in=False),
    Screen("docs", "/docs/en/", is_signed_in=False),
    Screen("docs-quickstart", "/docs/en/quickstart/", is_signed_in=False),
    Screen("docs-dialect", "/docs/en/relay-dialect/", is_signed_in=False),
    Screen("docs-chinese", "/docs/zh-hant/", is_signed_in=False),
    Screen("market", "/app/{slug}/market", wait_for="#market[data-state=live]"),
    Screen("race", "/race/"),
    Screen("race-stranger", "/race/", is_signed_in=False),
    Screen("connections", "/app/{slug}/connections"),
    Screen("requests", "/app/{slug}/requests"),
    Screen("request", "/app/{slug}/requests/{request_id}"),
    Screen("traces", "/app/{slug}/traces"),
    Screen("trace", "/app/{slug}/traces/{trace_id}"),
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
    Screen("plan", "/app/{money}/plan"),
    Screen("plan-yearly", "/app/{money}/plan?interval=year"),
    Screen("plan-arranged", "/app/{slug}/plan"),
    Screen("plan-change", "/app/{money}/plan/change/growth"),
    Screen("billing-profile", "/app/{money}/plan/billing-profile"),
    Screen("invoices", "/app/{money}/invoices"),
    Screen("invoices-none", "/app/{slug}/invoices"),
    Screen("invoice", "/app/{money}/invoices/{invoice}"),
    Screen("payments", "/app/{money}/invoices/payments"),
    Screen("credit-notes", "/app/{money}/invoices/credit-notes"),
    Screen("team", "/app/{money}/team"),
    Screen("sessions", "/app/{money}/team/sessions"),
    Screen("audit", "/app/{money}/team/audit"),
    Screen("settings", "/app/{money}/settings"),
)

#: Functions of `seeds.py` that are run before the first picture, in this order, in a process
#: of the relay's project. What they return are names that paths may use.
SEEDS: list[str] = ["acme", "public", "live", "metered", "money"]
