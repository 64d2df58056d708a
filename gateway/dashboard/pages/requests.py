"""The error log: what was refused or failed at the HTTP doors, and how long the doors took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from gateway.account import latency
from gateway.account import requests as account
from gateway.account.errors import AccountError, NotFound, Unavailable
from gateway.dashboard.access import PageRequest, page
from tenants.people.roles import May

PERIODS: dict[str, tuple[timedelta, Promise]] = {
    "1h": (timedelta(hours=1), _("Hour")),
    "24h": (timedelta(days=1), _("Day")),
    "7d": (timedelta(days=7), _("Week")),
}
DEFAULT_PERIOD = "24h"
FACETS: dict[str, Promise] = {
    "status": _("Status"),
    "code": _("Reason"),
    "kind": _("Method or type"),
    "door": _("Door"),
    "key_prefix": _("Key"),
}
MAX_VALUES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a facet: how many records have it, and the page without or with it alone."""

    text: str
    count: int | None
    url: str
    is_chosen: bool


@page(may=May.SEE_CONNECTIONS)
def requests(request: PageRequest) -> HttpResponse:
    """A page of them, newest first, narrowed by facets; every choice is in the address."""
    period = request.GET.get("period", DEFAULT_PERIOD)
    if period not in PERIODS:
        raise Http404
    chosen = {name: request.GET[name] for name in FACETS if request.GET.get(name)}
    context: dict[str, Any] = {
        "period": period,
        "periods": [
            (text, _url(chosen, name), name == period) for name, (_since, text) in PERIODS.items()
        ],
        "is_narrowed": bool(chosen),
        "all_url": _url({}, period),
    } | _latencies(request)
    since = timezone.now() - PERIODS[period][0]
    cursor = request.GET.get("cursor", "")
    try:
        narrowed = _narrowed(chosen)
        found = account.request_page(request.tenant, since=since, cursor=cursor, **narrowed)
        counted = account.facets(request.tenant, since=since, **narrowed)
    except AccountError as error:
        return render(request, "dashboard/requests.html", context | {"error": str(error)})
    context["records"] = found.rows
    context["facets"] = [
        (FACETS[name], _choices(name, counted[name], chosen, period), chosen.get(name, ""))
        for name in FACETS
    ]
    if found.next_cursor:
        context["older"] = _url(chosen | {"cursor": found.next_cursor}, period)
    if cursor:
        context["newer"] = _url(chosen, period)
    return render(request, "dashboard/requests.html", context)


@page(may=May.SEE_CONNECTIONS)
def request_page(request: PageRequest, request_id: str) -> HttpResponse:
    """One, as support would want to see it."""
    try:
        record = account.request(request.tenant, request_id)
    except NotFound as error:
        context = {"gone": str(error), "request_id": request_id}
        return render(request, "dashboard/request.html", context, status=404)
    own_ms = None if record.upstream_ms is None else max(0.0, record.total_ms - record.upstream_ms)
    return render(request, "dashboard/request.html", {"record": record, "own_ms": own_ms})


def _latencies(request: PageRequest) -> dict[str, Any]:
    try:
        return {"latencies": latency.by_door(request.tenant)}
    except Unavailable as away:
        return {"latencies_away": str(away)}


def _narrowed(chosen: dict[str, str]) -> dict[str, Any]:
    narrowed: dict[str, Any] = dict(chosen)
    if "status" in chosen:
        status = chosen["status"]
        if not (status.isascii() and status.isdigit() and len(status) == 3):
            raise Http404
        narrowed["status"] = int(status)
    return narrowed


def _choices(
    name: str, counted: list[tuple[str | int, int]], chosen: dict[str, str], period: str
) -> list[Choice]:
    return [
        Choice(
            str(value),
            count,
            _url(
                {key: kept for key, kept in chosen.items() if key != name}
                if chosen.get(name) == str(value)
                else chosen | {name: str(value)},
                period,
            ),
            chosen.get(name) == str(value),
        )
        for value, count in counted[:MAX_VALUES]
        if value != ""
    ]


def _url(chosen: dict[str, str], period: str) -> str:
    return f"?{urlencode({'period': period} | chosen)}"
