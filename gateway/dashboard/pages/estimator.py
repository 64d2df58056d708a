"""The cost estimator: what to follow, what it brings, and which plan is cheapest for it. The same
use case as `POST /v1/estimate`."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django_htmx.http import replace_url

from gateway.account.errors import AccountError, Unavailable
from gateway.account.estimate import UNMEASURED, Cost, Estimate, estimate, known_names
from gateway.dashboard import estimator as words
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.estimator import Wish
from streaming.nodes.live import Unreachable
from tenants.people.roles import May


@page(may=May.SEE_USAGE)
def show(request: PageRequest) -> HttpResponse:
    """The whole page; the wish is in its URL."""
    return render(request, "dashboard/estimator.html", _context(request, coins=_coins()))


@page(may=May.SEE_USAGE)
def part(request: PageRequest) -> HttpResponse:
    """The form and its answer, whenever something in it changes; the address follows."""
    answer = render(request, "dashboard/estimator_part.html", _context(request))
    here = reverse("dashboard:estimator", kwargs={"slug": request.tenant.slug})
    return replace_url(answer, f"{here}?{Wish.read(request.GET).params()}")


def _context(request: PageRequest, **more: Any) -> dict[str, Any]:
    wish = Wish.read(request.GET)
    again = reverse("dashboard:estimator-part", kwargs={"slug": request.tenant.slug})
    context: dict[str, Any] = {
        "wish": wish,
        "presets": [(one, one.wish.params()) for one in words.PRESETS],
        "groups": (
            ("coins", words.COIN_CHANNELS),
            ("whole", words.WHOLE_CHANNELS),
            ("accounts", words.USER_CHANNELS),
        ),
        "markets": words.MARKETS.items(),
        "retry": f"{again}?{wish.params()}",
        **more,
    }
    if not wish:
        return context
    try:
        found = estimate(request.tenant, wish.asked())
        unknown = sum(line.basis == UNMEASURED for line in found.lines)
        context |= {"found": found, "unknown": unknown, "saving": _saving(request, wish, found)}
    except Unavailable as error:
        context |= {"error": str(error), "is_away": True}
    except AccountError as error:
        context["error"] = str(error).partition(": ")[2] or str(error)
    return context


def _saving(request: PageRequest, wish: Wish, found: Estimate) -> dict[str, Any] | None:
    """What the book in its other form would come to, where there is one and somebody sells it."""
    if (other := words.in_other_form(wish)) is None:
        return None
    changed, name, instead = other
    then = estimate(request.tenant, changed.asked())
    plan = _serving_both(found, then)
    return {
        "name": name,
        "instead": instead,
        "query": changed.params(),
        "plan": plan and plan[0].name,
        "saved": plan and plan[0].per_month - plan[1].per_month,
        "bytes_saved": found.bytes_per_month - then.bytes_per_month,
        "messages_saved": found.messages_per_month - then.messages_per_month,
    }


def _serving_both(found: Estimate, then: Estimate) -> tuple[Cost, Cost] | None:
    """Both under the tenant's own plan if that serves both, else under the cheapest that does."""
    if found.plan and then.plan and found.plan.serves_all and then.plan.serves_all:
        return found.plan, then.plan
    others = {cost.code: cost for cost in then.offers if cost.serves_all}
    both = ((cost, others[cost.code]) for cost in found.offers if cost.code in others)
    return next((pair for pair in both if pair[0].serves_all), None)


def _coins() -> list[str]:
    """All that can be followed, for the search; none while nobody knows."""
    try:
        return sorted(known_names().coins)
    except Unreachable:
        return []
