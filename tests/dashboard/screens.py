"""Every page, as data: what `make screenshots` shows and `test_screens.py` looks at.

A new page adds a row; one that needs rows of the database to look like anything adds to `SEEDS`.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.dashboard.money_seed import MONEY_SEED


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

#: Python that is run inside the project before the first picture, each in a process of its own.
#: What the last line prints is JSON, an object whose names paths may use.
SEEDS: list[str] = [MONEY_SEED]
