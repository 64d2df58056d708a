"""Orders on their way: received, sent, acknowledged, in a block, filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from gateway.account import traces as account
from gateway.account.errors import AccountError, NotFound, Unavailable
from gateway.dashboard.access import PageRequest, page
from gateway.exchange.trace import STEPS, Trace
from gateway.exchange.trace_selectors import Shown
from tenants.models import APIKey
from tenants.people.roles import May

#: What a step's time is since the one before it.
STEP_NAMES: dict[str, Promise] = {
    "sent": _("Received → sent"),
    "acked": _("Sent → answered"),
    "block": _("Sent → block"),
    "fill": _("Block → fill"),
}
MOMENTS: dict[str, Promise] = {
    "received_ms": _("Received by the relay"),
    "sent_ms": _("Sent to the exchange"),
    "acked_ms": _("Answered by the exchange"),
    "block_ms": _("In a block"),
    "fill_ms": _("First fill"),
    "last_ms": _("Last change"),
}
#: Width of a row's bar, in its own units.
BAR = 100.0
MAX_COIN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Segment:
    """A step in a row's bar: where it begins, how wide it is, and how long the step took, of which
    a part may be hidden behind another."""

    step: str
    name: Promise
    x: float
    width: float
    took_ms: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A trace and its bar; `total_ms` None where nothing but its coming is known."""

    shown: Shown
    segments: list[Segment]
    total_ms: float | None


@page(may=May.SEE_CONNECTIONS)
def traces(request: PageRequest) -> HttpResponse:
    """The last day's, newest first, narrowed by key, coin and order."""
    given = {name: request.GET.get(name, "").strip() for name in ("key", "coin", "oid")}
    chosen = {name: value for name, value in given.items() if value}
    cursor = request.GET.get("cursor", "")
    context: dict[str, Any] = {
        "chosen": given,
        "is_narrowed": bool(chosen),
        "keys": APIKey.objects.filter(tenant=request.tenant, is_dashboard=None).order_by("name"),
    }
    try:
        found = account.trace_page(
            request.tenant,
            key_id=_number(given["key"]),
            coin=given["coin"][:MAX_COIN_CHARS],
            oid=_number(given["oid"]),
            cursor=cursor,
        )
        steps = account.latency(request.tenant).steps
        budgets = account.budgets(shown.trace.user for shown in found.rows)
    except AccountError as error:
        return render(request, "dashboard/traces.html", context | {"error": str(error)})
    context |= {
        "rows": [row_of(shown) for shown in found.rows],
        "steps": [(STEP_NAMES[step], steps[step]) for step in STEPS],
        "budgets": [(one, max(0, min(100, 100 * one.used // max(1, one.cap)))) for one in budgets],
        "older": f"?{urlencode(chosen | {'cursor': found.next_cursor})}"
        if found.next_cursor
        else "",
        "newer": f"?{urlencode(chosen)}" if cursor else "",
    }
    return render(request, "dashboard/traces.html", context)


@page(may=May.SEE_CONNECTIONS)
def trace(request: PageRequest, trace_id: str) -> HttpResponse:
    """One with all its times."""
    try:
        shown = account.trace(request.tenant, trace_id)
    except NotFound as gone:
        return render(request, "dashboard/trace.html", {"gone": str(gone)}, status=410)
    except Unavailable as away:
        return render(request, "dashboard/trace.html", {"away": str(away)})
    told = shown.trace
    began = told.received_ms
    moments = sorted(
        (
            (name, value, value - began)
            for field, name in MOMENTS.items()
            if (value := getattr(told, field)) is not None
        ),
        key=lambda moment: moment[1],
    )
    context = {
        "row": row_of(shown),
        "moments": moments,
        "steps": [(STEP_NAMES[step], told.took_ms(step)) for step in STEPS],
    }
    return render(request, "dashboard/trace.html", context)


def row_of(shown: Shown) -> Row:
    """With its bar: the steps one after the other, each as wide as it took. The answer and the
    block are both counted from sending, so that of these the later is drawn behind the earlier."""
    told = shown.trace
    ends = _ends(told)
    if not ends:
        return Row(shown, [], None)
    total = max(at for _step, at in ends) or 1e-9
    segments, before = [], 0.0
    for step, at in sorted(ends, key=lambda end: end[1]):
        x, width = BAR * before / total, BAR * max(0.0, at - before) / total
        segments.append(Segment(step, STEP_NAMES[step], x, width, told.took_ms(step)))
        before = max(before, at)
    return Row(shown, segments, total)


def _ends(told: Trace) -> list[tuple[str, float]]:
    """When each step that is known ended, in ms since the order came."""
    ends = {
        "sent": told.sent_ms,
        "acked": told.acked_ms,
        "block": told.block_ms,
        "fill": told.fill_ms if told.status == "filled" else None,
    }
    return [(step, max(0.0, at - told.received_ms)) for step, at in ends.items() if at is not None]


def _number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Http404
    return int(text)
