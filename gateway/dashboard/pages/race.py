"""The race page: this relay against another endpoint, in the visitor's own browser.

Public, and the only page whose policy lets a browser open sockets elsewhere: what is pasted goes to
the browser alone, is stored nowhere, and no key of ours ever goes to the other end.
"""

from __future__ import annotations

from typing import Any

from csp.decorators import csp_update
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from gateway.dashboard.access import LAST_TENANT
from tenants.people import selectors

#: Embedded, another endpoint may be on the same host and without TLS.
LOOPBACK = ["ws://127.0.0.1:*", "ws://localhost:*"]
SECONDS = (10, 30, 60, 300)
CHANNELS = ("trades", "bbo", "l2Book")
PUBLIC_URL = "wss://api.hyperliquid.xyz/ws"


@require_safe
def race(request: HttpRequest) -> HttpResponseBase:
    """The form; the race itself is the page's script. `?coin=` and `?channel=` fill it in."""
    elsewhere = ["wss:", *([] if settings.IS_PRODUCTION else LOOPBACK)]
    answer = csp_update({"connect-src": elsewhere})(_page)(request)
    add_never_cache_headers(answer)
    return answer


def _page(request: HttpRequest) -> HttpResponse:
    scheme = "wss" if request.is_secure() else "ws"
    channel = request.GET.get("channel", "")
    context = {
        "ws": f"{scheme}://{request.get_host()}/ws",
        "token_url": _token_url(request),
        "may_loopback": not settings.IS_PRODUCTION,
        "public_url": PUBLIC_URL,
        "channels": CHANNELS,
        "channel": channel if channel in CHANNELS else CHANNELS[0],
        "coin": request.GET.get("coin", "BTC")[:40],
        "all_seconds": SECONDS,
        "texts": _texts(),
    }
    return render(request, "dashboard/race.html", context)


def _token_url(request: HttpRequest) -> str:
    """Where this visitor gets a dashboard token, "" when they have to bring a key."""
    if not request.user.is_authenticated:
        return ""
    slugs = [row.tenant.slug for row in selectors.memberships_of(request.user)]
    if not slugs:
        return ""
    last = request.session.get(LAST_TENANT)
    return reverse("dashboard:token", kwargs={"slug": last if last in slugs else slugs[0]})


def _texts() -> dict[str, Any]:
    """What the page's script says."""
    return {
        "start": _("Start the race"),
        "stop": _("Stop"),
        "running": _("Racing …"),
        "done": _("Done. Run it again at another hour, and where your bot runs."),
        "nothing": _("Nothing to compare: race for longer, or follow another coin."),
        "noUrl": _("The other endpoint's address begins with wss://."),
        "noTls": _("Browsers open wss:// from here, not ws://."),
        "noToken": _("This relay gives no token now: load the page again."),
        "copied": _("Copied"),
        "even": _("Both at the same moment, at the median."),
        "weFirst": _("A is first by {ms} ms at the median."),
        "theyFirst": _("B is first by {ms} ms at the median."),
        "detail": _(
            "{compared} events at both in {seconds} s of chain time, {differs} of them with other "
            "content. A less B: p1 {p1}, p50 {p50}, p99 {p99} ms."
        ),
        "failed": {
            "silent": _("said nothing of this coin."),
            "timeout": _("did not open within 15 seconds."),
            "refused": _("could not be opened: a wrong key or address, or it refuses browsers."),
            "ended": _("ended the connection."),
            "error": _("says:"),
            "stopped": _("Stopped before it began."),
        },
    }
