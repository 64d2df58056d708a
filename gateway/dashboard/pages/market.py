"""A coin's order book and trades, live: the page draws what the relay's own socket brings."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from gateway.dashboard.access import PageRequest, page
from tenants.people.roles import May

DEFAULT_COIN = "BTC"
MAX_COIN_CHARS = 40
INTERVALS = ("1m", "5m", "15m", "1h", "4h", "1d")


@page(may=May.SEE_USAGE)
def market(request: PageRequest) -> HttpResponse:
    """`?coin=` begins with another coin; the socket says when there is none of that name."""
    coin = request.GET.get("coin", "").strip()[:MAX_COIN_CHARS] or DEFAULT_COIN
    context = {"coin": coin, "intervals": INTERVALS, "texts": _texts()}
    return render(request, "dashboard/market.html", context)


def _texts() -> dict[str, Any]:
    """What the page's script says; `{…}` it fills in."""
    return {
        "title": _("Market"),
        "waiting": _("Waiting for the first frame …"),
        "connected": _("Connected"),
        "lost": _("Connection lost{code}. Connecting again …"),
        "paused": _("Paused: the connection is closed."),
        "resumed": _("Went on at the last cursor: nothing is left out."),
        "notResumed": _("Away for long: trades in between are not shown."),
        "replayed": _("Caught up; what follows is live."),
        "gap": _("Gap: {what} of blocks {from} to {to}. {reason}"),
        "stale": _("Stale: {what} {age} old."),
        "staleNow": _("Stale: {what}"),
        "fresh": _("Fresh again: {what}"),
        "resync": _("A new epoch: {what} {reason}"),
        "resumeFailed": _("Too old to go on with: {what} begin anew."),
        "broken": _("The book missed a frame and begins anew."),
        "wrong": _("The book's checksum differed, and it begins anew."),
        "whole": _("No level changes from this upstream: whole books instead."),
        "goingAway": _("The relay's process is being replaced; another one takes over."),
        "noHistory": _("No candles of the past: drawn from what arrives."),
        "refused": _("The log-in has ended. Load the page again to sign in."),
        "topics": {
            "": _("everything"),
            "book": _("book"),
            "trades": _("trades"),
            "candle": _("candles"),
            "context": _("figures"),
        },
        "kinds": {"perp": _("Perp"), "spot": _("Spot"), "hip3": "HIP-3"},
        "states": {
            "live": _("Live"),
            "stale": _("Stale"),
            "connecting": _("Connecting …"),
            "waiting": _("Connecting again …"),
            "waiting-book": _("Waiting for the book …"),
            "paused": _("Paused"),
            "refused": _("Signed out"),
        },
    }
