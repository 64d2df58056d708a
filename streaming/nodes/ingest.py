"""Gap reports → ledger. Each gap of a topic at an edge is one row, however often it is reported."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from django.db import transaction

from streaming.bus import gap_reports, keys
from streaming.bus.gap_reports import GapReport
from streaming.core.topic import parse_name
from streaming.nodes import live, metrics
from streaming.nodes.models import GapRecord

log = structlog.get_logger(__name__)

REPORTS_AT_A_TIME = 500
#: One run of the task takes at most this many steps; the next one goes on.
MAX_STEPS = 20


def ingest_waiting() -> int:
    """Move the waiting reports into the ledger; returns how many were taken.

    They leave Redis once the database has them, so a crash in between repeats some, and the
    ledger's unique constraint makes that harmless. Raises live.Unreachable or django.db.Error.
    """
    taken = 0
    with live.bus() as client:
        for _ in range(MAX_STEPS):
            rows: Any = client.xrange(keys.GAPS, count=REPORTS_AT_A_TIME)
            if not rows:
                break
            record(_readable(rows))
            client.xdel(keys.GAPS, *(id_ for id_, _ in rows))
            taken += len(rows)
    return taken


@transaction.atomic
def record(reports: Iterable[GapReport]) -> None:
    """Write gaps that are new, and when those that were filled were."""
    reports = list(reports)
    # Ignoring conflicts and not asking before: two tasks may be at it.
    GapRecord.objects.bulk_create([_row(report) for report in reports], ignore_conflicts=True)
    for report in reports:
        if report.is_filled:
            GapRecord.objects.filter(**_identity(report), filled_at=None).update(
                filled_at=_at(report)
            )


def _identity(report: GapReport) -> dict[str, Any]:
    return {
        "topic": report.topic[:200],
        "source": report.source[:40],
        "edge": report.edge[:40],
        "from_height": report.begin.height,
        "from_index": report.begin.index,
        "to_height": report.end.height,
        "to_index": report.end.index,
    }


def _row(report: GapReport) -> GapRecord:
    return GapRecord(
        **_identity(report),
        kind=report.topic.partition(" ")[0][:40],
        coin=_coin(report.topic)[:48],
        reason=report.reason[:200],
        detected_at=_at(report),
        filled_at=_at(report) if report.is_filled else None,
    )


def _coin(name: str) -> str:
    try:
        return parse_name(name).coin
    except ValueError:
        return ""  # of a newer version: the gap is no less real


def _at(report: GapReport) -> datetime:
    return datetime.fromtimestamp(report.at_ms / 1000, UTC)


def _readable(rows: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterable[GapReport]:
    for _, fields in rows:
        try:
            report = gap_reports.decode(fields.get(b"d", b""))
            _at(report)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError) as error:
            _refuse("unreadable", str(error))
            continue
        if report.end <= report.begin or not all(
            0 <= number < 2**63 for number in (*report.begin, *report.end)
        ):
            _refuse("impossible", f"({report.begin} to {report.end}]")
            continue
        yield report


def _refuse(reason: str, detail: str) -> None:
    metrics.gap_reports.labels(reason).inc()
    log.warning("gap_report_refused", reason=reason, detail=detail[:200])
