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
)

#: Python that is run inside the project before the first picture, each in a process of its own.
#: What the last line prints is JSON, an object whose names paths may use.
SEEDS: list[str] = []
