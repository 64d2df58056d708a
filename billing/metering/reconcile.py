"""Do batches, ledger, chain, rollups and what is told by coin tell the same, and a probe that
counted for itself too?

Every comparison is one statement, and so sees one moment, while batches go on arriving.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing.metering import chain, quarantine, retention
from billing.metering.rollup import DAILY, HOURLY, Span, midnight, spans
from billing.models import (
    Account,
    CoinHour,
    CoinRollup,
    LedgerEntry,
    Metric,
    QuarantinedBatch,
    UsageBatch,
)


class Difference(NamedTuple):
    """Two that should be the same and are not."""

    check: str
    where: str
    what: str


class ProbeCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a probe says a key got on a channel."""

    key: int
    channel: str
    metric: Metric
    units: Annotated[int, msgspec.Meta(ge=0)]


def read_probe(data: bytes) -> list[ProbeCount]:
    """The counts in `[{"key": 7, "channel": "bbo", "metric": "messages", "units": 12}, …]`. Raises
    ValueError."""
    return msgspec.json.decode(data, type=list[ProbeCount])


def reconcile(
    start: date = date.min, end: date = date.max, *, probe: list[ProbeCount] | None = None
) -> Iterator[Difference]:
    """All differences of the usage of the UTC days `[start, end)`, and of the months these are in.

    A chain is looked at whole; hourly sums and minutes of coins as far as they are kept. The probe
    must have counted all that the keys it names used in that time, of the metrics it names.
    """
    holes = set(_holes(start, end))
    yield from _batches(start, end)
    for account in Account.objects.all():
        for where, what in chain.faults(account):
            yield Difference("chain", f"{account}, {where}", what)
    now = timezone.now()
    for span in spans(start, end):
        if span.grain is not HOURLY or span.start >= retention.rollups_since(now):
            yield from _rollups(span)
        if span.grain is DAILY:
            yield from _coins(span)
            if span.start >= retention.hours_since(now):
                yield from _coin_minutes(span)
    yield from _probe(probe or [], start, end)
    # Two batches may overtake each other on their way: a hole is what is one at the end still.
    yield from (hole for hole in _holes(start, end) if hole in holes)
    yield from _quarantined()


def _holes(start: date, end: date) -> Iterator[Difference]:
    """Numbers of workers that never came, of holes before a batch of those days."""
    for hole in quarantine.holes():
        if start <= hole.next_hour.date() < end:
            numbers = f"#{hole.first}" + (f" to #{hole.last}" if hole.last > hole.first else "")
            what = f"never came; #{hole.last + 1} did, {hole.next_at:%Y-%m-%d %H:%M:%S}"
            yield Difference("missing batch", f"{hole.worker} {numbers}", what)


def _quarantined() -> Iterator[Difference]:
    """All that was put aside: of which days it is may be unreadable."""
    for row in QuarantinedBatch.objects.order_by("pk").defer("text").iterator():
        what = f"row {row.pk}, {row.received_at:%Y-%m-%d %H:%M:%S}: {row.reason}"
        yield Difference("quarantine", f"{row.worker} #{row.flush_seq}", what)


def _batches(start: date, end: date) -> Iterator[Difference]:
    """The control totals of each batch beside its entries."""

    def sum_of(metric: Metric) -> Coalesce:
        return Coalesce(Sum("entries__units", filter=Q(entries__metric=metric)), 0)

    rows = UsageBatch.objects.filter(**_hours(start, end)).annotate(
        entries_told=Coalesce(F("entry_count"), 0),
        entries_posted=Count("entries"),
        # Minutes have hours of their own.
        misplaced=Count(
            "entries",
            filter=~Q(entries__hour=F("hour")) & ~Q(entries__metric=Metric.COIN_MINUTES),
        ),
        messages=sum_of(Metric.MESSAGES),
        bytes=sum_of(Metric.BYTES),
        requests=sum_of(Metric.REQUESTS),
    )
    agrees = Q(messages=F("message_total"), bytes=F("byte_total"), requests=F("request_total"))
    wrong = rows.exclude(
        # One from before the ledger has totals and no entries.
        Q(entry_count=None) | agrees,
        entries_told=F("entries_posted"),
        misplaced=0,
    )
    pairs = (
        ("entries_told", "entries_posted"),
        ("message_total", "messages"),
        ("byte_total", "bytes"),
        ("request_total", "requests"),
    )
    names = ("worker", "flush_seq", "misplaced", *(name for pair in pairs for name in pair))
    for row in wrong.order_by("pk").values(*names).iterator():
        what = [
            f"{told} {row[told]}, in the ledger {row[posted]}"
            for told, posted in pairs
            if row[told] != row[posted]
        ]
        if row["misplaced"]:
            what.append(f"{row['misplaced']} entries are of another hour")
        yield Difference("batch", f"{row['worker']} #{row['flush_seq']}", "; ".join(what))


def _rollups(span: Span) -> Iterator[Difference]:
    """Ledger and rollups in one pile, the one counted up and the other down: what is left over
    differs."""
    column = span.grain.column
    entries = span.entries.annotate(tenant_of=F("account__tenant")).values_list(
        "tenant_of", "key_id", "metric", "channel", "zero_rated", "hour", "units"
    )
    sums = span.rollups.values_list(
        "tenant_id", "key_id", "metric", "channel", "zero_rated", column, "units"
    )
    per_hour = ", start" if column == "hour" else ""
    (ledger_sql, ledger_of), (rollup_sql, rollup_of) = (
        query.order_by().query.sql_with_params() for query in (entries, sums)
    )
    place = "tenant, key_id, metric, channel, zero_rated"
    with connection.cursor() as cursor:
        # Both texts come from the ORM; the tables' columns are named by the first of them.
        cursor.execute(
            f"WITH ledger (tenant, key_id, metric, channel, zero_rated, start, units) AS "  # noqa: S608
            f"({ledger_sql}), sums (tenant, key_id, metric, channel, zero_rated, start, units) AS "
            f"({rollup_sql}) SELECT {place}, MIN(start), SUM(posted), SUM(summed) FROM ("
            f"SELECT {place}, start, units AS posted, 0 AS summed FROM ledger UNION ALL "
            f"SELECT {place}, start, 0 AS posted, units AS summed FROM sums) AS pile "
            f"GROUP BY {place}{per_hour} HAVING SUM(posted) <> SUM(summed)",
            [*ledger_of, *rollup_of],
        )
        for tenant, key, metric, channel, zero_rated, start, posted, summed in cursor:
            begins = start if column == "hour" else span.start.date()
            where = f"{begins} tenant {tenant} key {key} {channel} {metric} {zero_rated}".rstrip()
            yield Difference(f"rollup {column}", where, f"ledger {posted}, rollup {summed}")


def _coins(span: Span) -> Iterator[Difference]:
    """The sums over all coins beside those of the day."""
    day = span.start.date()
    place_of = ("tenant_id", "key_id", "channel", "zero_rated")

    def by_coin(metric: Metric, column: str) -> QuerySet[CoinRollup, Any]:
        rows = CoinRollup.objects.filter(day=day).order_by().values(*place_of)
        summed = rows.annotate(what=Value(metric.value), told=Sum(column), side=Value(1))
        return summed.values_list(*place_of, "what", "told", "side")

    daily = span.rollups.filter(metric__in=(Metric.MESSAGES, Metric.BYTES)).order_by()
    both = (
        daily.annotate(side=Value(0))
        .values_list(*place_of, "metric", "units", "side")
        .union(by_coin(Metric.MESSAGES, "messages"), by_coin(Metric.BYTES, "bytes"), all=True)
    )
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for *place, units, side in both.iterator():
        sums[tuple(place)][side] += int(units)
    for place, (of_day, told) in sorted(sums.items(), key=str):
        if of_day != told:
            tenant, key, channel, zero_rated, metric = place
            where = f"{day} tenant {tenant} key {key} {channel} {metric} {zero_rated}".rstrip()
            yield Difference("coins", where, f"rollup day {of_day}, over all coins {told}")


def _coin_minutes(span: Span) -> Iterator[Difference]:
    """The bits of the minutes of a day beside the units in the ledger."""
    hours = CoinHour.objects.filter(hour__gte=span.start, hour__lt=span.end).order_by()
    entries = span.entries.filter(metric=Metric.COIN_MINUTES).order_by().values("hour", "key_id")
    both = (
        hours.annotate(side=Value(0))
        .values_list("hour", "key_id", "minutes", "side")
        .union(
            entries.annotate(total=Sum("units"), side=Value(1)).values_list(
                "hour", "key_id", "total", "side"
            ),
            all=True,
        )
    )
    sums: dict[tuple[datetime, int], list[int]] = defaultdict(lambda: [0, 0])
    for hour, key, minutes, side in both.iterator():
        sums[hour, key][side] += int(minutes) if side else int(minutes).bit_count()
    for place, (told, posted) in sorted(sums.items()):
        if told != posted:
            what = f"minutes followed {told}, in the ledger {posted}"
            yield Difference("coin-minutes", "{} key {}".format(*place), what)


def _probe(counts: list[ProbeCount], start: date, end: date) -> Iterator[Difference]:
    told: dict[tuple[int, str, str], int] = {}
    for count in counts:
        place = (count.key, count.channel, count.metric.value)
        told[place] = told.get(place, 0) + count.units
    metrics = {metric for _, _, metric in told}
    posted: dict[tuple[int, str, str], int] = {}
    for key in sorted({key for key, _, _ in told}):
        rows = LedgerEntry.objects.filter(key=key, metric__in=metrics, **_hours(start, end))
        summed = rows.order_by().values_list("key_id", "channel", "metric")
        for *place_of, units in summed.annotate(total=Sum("units")):
            posted[tuple(place_of)] = units
    for place in sorted(told.keys() | posted.keys()):
        if told.get(place, 0) != posted.get(place, 0):
            what = f"probe {told.get(place, 0)}, ledger {posted.get(place, 0)}"
            yield Difference("probe", "key {} {} {}".format(*place), what)


def _hours(start: date, end: date) -> dict[str, datetime]:
    """A filter by hour; none where there is no bound, because databases do not know year 1."""
    bounds = {}
    if start > date.min:
        bounds["hour__gte"] = midnight(start)
    if end < date.max:
        bounds["hour__lt"] = midnight(end)
    return bounds
