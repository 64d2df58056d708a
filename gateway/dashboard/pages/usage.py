"""Usage: what was used, cut as somebody likes, as a chart, a table and a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from billing.channels import CHANNELS
from billing.exports.pages import download
from gateway.account import meter, periods, usage
from gateway.account.breakdown import Breakdown, Series, breakdown
from gateway.account.errors import BadValue
from gateway.dashboard import usage_filters as words
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.figures import whole
from gateway.dashboard.tables import Column, Table
from gateway.dashboard.usage_filters import Filters
from tenants.models import APIKey
from tenants.people.roles import May

#: Series that a chart and its table show by themselves; the rest is one.
SHOWN = 8
#: Lines of the list of sums, and keys to choose from.
MAX_LISTED = 50
MAX_KEYS = 200


@page(may=May.SEE_USAGE)
def show(request: PageRequest) -> HttpResponse:
    """The whole page."""
    now = timezone.now()
    filters = Filters.read(request.GET.dict())
    keys = _keys(request)
    context: dict[str, Any] = {"filters": filters, "keys": keys, **_choices(filters)}
    try:
        found = _found(request, filters, now)
    except BadValue as error:
        return render(request, "dashboard/usage.html", context | {"error": str(error)})
    shown = _folded(found)
    context |= {
        "found": found,
        "first": found.times[0],
        "last": found.times[-1],
        "chart": _chart(found, shown),
        "sums": _sums(found),
        "more": max(0, len(found.series) - MAX_LISTED),
        "columns": [one.label for one in shown],
        "rows": _rows(found.times, shown, found.query.step),
        "column_sums": [one.total for one in shown],
        "reasons": _reasons(found),
        "csv_query": filters.params(),
    }
    return render(request, "dashboard/usage.html", context)


@page(may=May.SEE_USAGE)
def csv(request: PageRequest) -> HttpResponse | StreamingHttpResponse:
    """The same numbers as a file: by default those of the page, with `rows=all` each row of the
    sums, by key, channel, coin and reason."""
    filters = Filters.read(request.GET.dict())
    now = timezone.now()
    try:
        if request.GET.get("rows") == "all":
            this, last = periods.this_and_last(request.tenant, now=now)
            query = filters.query(this, last, now=now).checked()
            blocks = usage.usage_csv(request.tenant, query)
        else:
            found = _found(request, filters, now)
            query, blocks = found.query, found.csv()
    except BadValue as error:
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
    name = f"usage-{query.start:%Y%m%d}-{query.end:%Y%m%d}.csv"
    return download(request, blocks, name)


@page(may=May.SEE_USAGE)
def cost(request: PageRequest) -> HttpResponse:
    """The part of what the running period costs: so far, and if it goes on as it did."""
    found = meter.cost_of(request.tenant)
    return render(request, "dashboard/usage_cost.html", {"cost": found})


@page(may=May.SEE_USAGE)
def live(request: PageRequest) -> HttpResponse:
    """The part that counts: `dashboard/parts/meter.html` asks for it again and again."""
    found = meter.read(request.tenant)
    return render(request, "dashboard/parts/meter_count.html", {"meter": found})


def _found(request: PageRequest, filters: Filters, now: datetime) -> Breakdown:
    this, last = periods.this_and_last(request.tenant, now=now)
    query = filters.query(this, last, now=now)
    return breakdown(request.tenant, query, metric=filters.metric, by=filters.by)


def _keys(request: PageRequest) -> list[tuple[str, str]]:
    rows = APIKey.objects.for_tenant(request.tenant).order_by("name", "pk")
    found = rows.values_list("pk", "name", "prefix")[:MAX_KEYS]
    return [(str(pk), f"{name} ({prefix}…)") for pk, name, prefix in found]


def _choices(filters: Filters) -> dict[str, Any]:
    def links(field: str, names: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
        now = getattr(filters, field)
        return [
            {"title": title, "query": filters.params(**{field: name}), "is_current": name == now}
            for name, title in names
        ]

    return {
        "ranges": links("range", words.RANGES.items()),
        "dimensions": links("by", words.BY.items()),
        "metrics": links("metric", list(words.METRIC_NAMES.items())[:4]),
        "steps": links("step", words.STEPS.items()),
        "channels": CHANNELS,
        "products": usage.PRODUCTS,
        "free_choices": words.FREE.items(),
        "is_custom": filters.range == words.CUSTOM,
        "is_filtered": bool(
            filters.key or filters.product or filters.channel or filters.coin or filters.free
        ),
        "unfiltered": filters.params(key="", product="", channel="", coin="", free=""),
        "metric_name": words.METRIC_NAMES[filters.metric],
        "by_name": words.BY[filters.by],
    }


def _folded(found: Breakdown) -> list[Series]:
    """The largest series, and all others as one."""
    named = [_named(found, one) for one in found.series]
    if len(named) <= SHOWN:
        return named
    rest = named[SHOWN - 1 :]
    other = Series(
        name="",
        label=_("%(count)d others") % {"count": len(rest)},
        values=tuple(map(sum, zip(*(one.values for one in rest), strict=True))),
        free_values=tuple(map(sum, zip(*(one.free_values for one in rest), strict=True))),
    )
    return [*named[: SHOWN - 1], other]


def _named(found: Breakdown, one: Series) -> Series:
    label = one.label
    if found.by == "zero_rated":
        label = one.name or _("charged")
    elif found.by == "none":
        label = _("Total")
    elif found.by == "coin" and not one.name:
        label = _("of no one coin")
    return Series(name=one.name, label=label, values=one.values, free_values=one.free_values)


def _chart(found: Breakdown, shown: Sequence[Series]) -> dict[str, Any]:
    return {
        "times": [int(at.timestamp()) for at in found.times],
        "step": found.query.step,
        "series": [{"label": one.label, "values": one.values} for one in shown],
    }


def _sums(found: Breakdown) -> Table:
    whole_sum = found.total or 1
    rows = []
    for place, one in enumerate(found.series[:MAX_LISTED]):
        named = _named(found, one)
        colour = min(place, SHOWN - 1)
        share = f"{100 * one.total / whole_sum:.1f}\N{NO-BREAK SPACE}%"
        rows.append(
            (
                format_html(
                    '<span class="labelled"><span class="swatch chart-{}"></span>{}</span>',
                    colour,
                    named.label,
                ),
                whole(one.total),
                share,
                whole(one.free) if one.free else "",
            )
        )
    columns = (
        Column(words.BY[found.by]),
        Column(words.METRIC_NAMES[found.metric], is_number=True),
        Column(_("Share"), is_number=True),
        Column(_("Free of it"), is_number=True),
    )
    return Table(_("Sums of the range"), columns, rows, _("Nothing was used."))


def _rows(times: Sequence[datetime], shown: Sequence[Series], step: str) -> SafeString:
    """The rows of the table of all numbers, the newest first. Not a template: there may be some
    thousand cells."""
    form = "%Y-%m-%d %H:00" if step == "hour" else "%Y-%m-%d"
    columns = [one.values for one in shown]
    made = (
        (
            times[n].strftime(form),
            format_html_join("", '<td class="number">{}</td>', ((whole(c[n]),) for c in columns)),
            whole(sum(c[n] for c in columns)),
        )
        for n in range(len(times) - 1, -1, -1)
        if any(c[n] for c in columns)
    )
    return format_html_join(
        "", '<tr><th scope="row">{}</th>{}<td class="number">{}</td></tr>', made
    )


def _reasons(found: Breakdown) -> Table:
    rows = [
        (reason, _(usage.REASONS[reason]) if reason in usage.REASONS else "", whole(units))
        for reason, units in found.reasons
    ]
    columns = (
        Column(_("Reason")),
        Column(_("What it is")),
        Column(words.METRIC_NAMES[found.metric], is_number=True),
    )
    return Table(_("Free of charge"), columns, rows)
