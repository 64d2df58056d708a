"""The side navigation: one table. A page appears once its route exists, for who may open it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tenants.people.roles import May, may

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Entry:
    """A page: its title, its icon, its route, and the right it asks for. A route without a
    namespace is outside the tenant: documents, the status page."""

    title: Text
    icon: str
    route: str
    may: May = May.SEE_USAGE

    def url(self, slug: str) -> str | None:
        """Its address in a tenant, or None while there is no such route."""
        try:
            if self.route.startswith("dashboard:"):
                return reverse(self.route, kwargs={"slug": slug})
            return reverse(self.route)
        except NoReverseMatch:
            return None


#: Groups of entries; the first has no title.
GROUPS: tuple[tuple[Text, tuple[Entry, ...]], ...] = (
    (
        "",
        (
            Entry(_("Overview"), "layout-dashboard", "dashboard:overview"),
            Entry(_("Get started"), "rocket", "dashboard:start", May.MANAGE_KEYS),
            Entry(_("Market"), "candlestick-chart", "dashboard:market"),
        ),
    ),
    (
        _("Build"),
        (
            Entry(_("Keys"), "key-round", "dashboard:keys", May.SEE_KEYS),
            Entry(_("Connections"), "radio", "dashboard:connections", May.SEE_CONNECTIONS),
            Entry(_("Requests"), "list", "dashboard:requests", May.SEE_CONNECTIONS),
            Entry(_("Traces"), "route", "dashboard:traces", May.SEE_CONNECTIONS),
            Entry(_("Webhooks"), "webhook", "dashboard:webhooks", May.SEE_KEYS),
        ),
    ),
    (
        _("Usage & billing"),
        (
            Entry(_("Usage"), "chart-line", "dashboard:usage"),
            Entry(_("Estimator"), "calculator", "dashboard:estimator"),
            Entry(_("Spend & alerts"), "gauge", "dashboard:alerts"),
            Entry(_("Plan & billing"), "wallet", "dashboard:plan"),
            Entry(_("Invoices"), "receipt", "dashboard:invoices", May.SEE_INVOICES),
        ),
    ),
    (
        _("Account"),
        (
            Entry(_("Team"), "users", "dashboard:team", May.SEE_PEOPLE),
            Entry(_("Settings"), "settings", "dashboard:settings", May.EDIT_TENANT),
        ),
    ),
    (
        _("Help"),
        (
            Entry(_("Docs"), "book-open", "docs"),
            Entry(_("API reference"), "terminal", "api-docs"),
            Entry(_("Status"), "activity", "status"),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """What the visitor's role may open in this tenant, by group; `is_current` for the page shown
    and those below it."""
    slug = request.tenant.slug  # type: ignore[attr-defined]
    role = request.membership.role  # type: ignore[attr-defined]
    here = request.path
    groups: list[dict[str, Any]] = []
    for title, entries in GROUPS:
        shown = []
        for entry in entries:
            url = entry.url(slug) if may(role, entry.may) else None
            if url is not None:
                is_current = here == url or (
                    entry.route != "dashboard:overview" and here.startswith(url)
                )
                shown.append({"entry": entry, "url": url, "is_current": is_current})
        if shown:
            groups.append({"title": title, "entries": shown})
    return groups
