"""The public status page, its JSON and its feed. No Redis is asked, and the database seldom."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.contrib.syndication.views import Feed
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.utils.feedgenerator import Atom1Feed
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from gateway.operations import selectors, shown, status
from gateway.operations.models import IncidentUpdate

GAPS_OF_PAGE = 200


@require_safe
async def page(request: HttpRequest) -> HttpResponse:
    """`/status/`. What the serving process itself sees is asked in its loop, the rest in a
    thread."""
    return await sync_to_async(_page)(request, status.edge_problem(), status.edge_state())


@require_safe
async def as_json(request: HttpRequest) -> JsonResponse:
    """`/status.json`."""
    problem = status.edge_problem()
    body = await sync_to_async(lambda: shown.as_json(status.current(), problem))()
    answer = JsonResponse(body)
    answer["Access-Control-Allow-Origin"] = "*"  # for pages of others that show it
    answer["Cache-Control"] = f"public, max-age={status.KEEP_S:.0f}"
    return answer


def _page(request: HttpRequest, edge_problem: str | None, edge_state: str) -> HttpResponse:
    found = status.current()
    is_late = found.is_late
    context: dict[str, Any] = {
        "status": found,
        "state": found.state,
        "headline": shown.STATES[found.state],
        "edge_problem": edge_problem,
        "is_edge_fresh": edge_state == status.OPERATIONAL,
        "feeds": [shown.row(each, is_late=is_late) for each in found.feeds],
        "upstreams": [shown.row(each, is_late=is_late) for each in found.upstreams],
        "days": selectors.DAYS,
    }
    return render(request, "operations/status.html", context)


@require_safe
def gaps(request: HttpRequest) -> HttpResponse:
    """`/status/gaps/`: the gap ledger, newest first; `?before=` goes back, with `&row=` within what
    was noticed at that very time."""
    before = _moment(request.GET.get("before", ""))
    row = request.GET.get("row", "")
    pk = int(row) if row.isascii() and row.isdigit() and len(row) < 19 else 0
    try:
        rows, place = selectors.gaps(
            before=None if before is None else (before, pk), count=GAPS_OF_PAGE
        )
    except DatabaseError:
        return render(request, "operations/gaps.html", {"is_readable": False}, status=503)
    older = "" if place is None else urlencode({"before": place[0].isoformat(), "row": place[1]})
    if request.GET.get("format") == "json":
        return JsonResponse({"gaps": [shown.gap_json(gap) for gap in rows], "older": older})
    return render(
        request, "operations/gaps.html", {"gaps": rows, "older": older, "is_readable": True}
    )


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text.replace(" ", "+"))
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


class IncidentFeed(Feed):
    """`/status/feed.atom`: an entry for each update of an incident."""

    feed_type = Atom1Feed
    title = gettext_lazy("Status of the relay")
    link = "/status/"
    subtitle = gettext_lazy("Incidents and maintenance")

    def items(self) -> list[IncidentUpdate]:
        return selectors.newest_updates()

    def item_title(self, item: Any) -> str:
        return f"{item.incident.title}: {item.get_state_display()}"

    def item_description(self, item: Any) -> str:
        return str(item.text)

    def item_link(self, item: IncidentUpdate) -> str:
        return f"/status/#incident-{item.incident_id}"

    def item_guid(self, item: IncidentUpdate) -> str:
        return f"incident-update-{item.pk}"

    item_guid_is_permalink = False

    def item_pubdate(self, item: IncidentUpdate) -> datetime:
        return item.at

    def item_updateddate(self, item: IncidentUpdate) -> datetime:
        return item.at
