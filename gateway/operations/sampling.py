"""One look a minute at what is fresh, kept by minute, hour and day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from gateway.operations import freshness
from gateway.operations.freshness import Look, Seen
from gateway.operations.models import SUBJECT_CHARS, Freshness
from streaming.nodes import live, selectors

Span = Freshness.Span
#: How long each span is kept. Days are two quarters and a bit more than the page shows.
KEPT = {
    Span.MINUTE: timedelta(hours=48),
    Span.HOUR: timedelta(days=45),
    Span.DAY: timedelta(days=400),
}
#: A subject seen within this is expected to be there; later it was taken away on purpose.
EXPECTED_WITHIN = timedelta(hours=1)
#: Rows that one turn of retention deletes of a span.
DELETED_AT_ONCE = 5_000


def sample(now: datetime) -> int:
    """Look once and keep what was seen; answers of how many subjects. A second look within one
    minute changes nothing."""
    try:
        seen = list(seen_now())
    except live.Unreachable:
        seen = []  # nobody can say anything of anything, which is what customers meet too
    known = _known(now) if not seen else ()
    looks = freshness.looks_of(seen, known)
    record(looks, now)
    return len(looks)


def seen_now() -> Iterable[Seen]:
    """Every source of every living worker. Raises live.Unreachable."""
    states = live.worker_states()
    for source in selectors.live_sources():
        state = states.get(source.worker, {}).get("sources", {}).get(source.name, {})
        is_public = state.get("kind") == "public"
        if state.get("kind") == "polled":
            continue  # asked only while somebody follows what it gives
        age_s = (
            None if source.block_age_s is None else source.block_age_s + (source.silent_s or 0.0)
        )
        yield Seen(
            name=source.name[: SUBJECT_CHARS - len(freshness.UPSTREAM)],
            is_public=is_public,
            is_well=not freshness.DOWN.intersection(source.marks),
            age_ms=None if age_s is None else max(0, round(age_s * 1000)),
            files=freshness.files_of(state),
            stopped=freshness.stopped_of(source.marks),
            has_books=state.get("books_ready") is not False,
        )


@transaction.atomic
def record(looks: Mapping[str, Look], at: datetime) -> None:
    """Add a minute's looks to it, its hour and its day; whose minute is there already is left."""
    minute = at.replace(second=0, microsecond=0)
    for subject, look in looks.items():
        _, is_new = Freshness.objects.get_or_create(
            span=Span.MINUTE, start=minute, subject=subject, defaults=_values(look)
        )
        if is_new:
            _add(Span.HOUR, minute.replace(minute=0), subject, look)
            _add(Span.DAY, minute.replace(hour=0, minute=0), subject, look)


def forget(now: datetime) -> int:
    """Delete what is older than its span is kept; answers how many rows."""
    gone = 0
    for span, kept in KEPT.items():
        old = Freshness.objects.filter(span=span, start__lt=now - kept)
        ids = list(old.order_by("start").values_list("pk", flat=True)[:DELETED_AT_ONCE])
        gone += Freshness.objects.filter(pk__in=ids).delete()[0]
    return gone


def _known(now: datetime) -> list[str]:
    recent = Freshness.objects.filter(span=Span.MINUTE, start__gte=now - EXPECTED_WITHIN)
    return list(recent.order_by("subject").values_list("subject", flat=True).distinct())


def _values(look: Look) -> dict[str, int]:
    age_ms = look.age_ms or 0
    return {
        "looks": 1,
        "fresh": int(look.is_fresh),
        "aged": int(look.age_ms is not None),
        "age_ms_sum": age_ms,
        "age_ms_max": age_ms,
    }


def _add(span: str, start: datetime, subject: str, look: Look) -> None:
    row, is_new = Freshness.objects.get_or_create(
        span=span, start=start, subject=subject, defaults=_values(look)
    )
    if is_new:
        return
    values = _values(look)
    Freshness.objects.filter(pk=row.pk).update(
        age_ms_max=Greatest(F("age_ms_max"), values.pop("age_ms_max")),
        **{name: F(name) + value for name, value in values.items()},
    )
