"""Live figures as an operator reads them. Pure, except for ages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from streaming.nodes.selectors import LiveSource, SchemaAlert
from streaming.sessions import SessionRow

NOTHING = "–"
#: Topics named in a row of the list; the rest are counted, and all are in the tooltip.
TOPICS_SHOWN = 3


def number(value: float | None) -> str:
    """With commas."""
    return NOTHING if value is None else f"{value:,.0f}"


def blocks(value: int) -> str:
    """A number of blocks."""
    return f"{value:,} block{'' if value == 1 else 's'}"


def age(seconds: float | None) -> str:
    """A time span in the unit a person would use."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size_s in (("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)):
        if seconds < size_s * (48 if unit == "h" else 120):
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size(value: float | None) -> str:
    """Bytes, in steps of 1,000."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB"):
        if value < 1_000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1_000
    return f"{value:.1f} GB"


def faults(errors: Mapping[str, int]) -> str:
    """Errors by reason, the most frequent first."""
    ordered = sorted(errors.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason}: {count:,}" for reason, count in ordered) or "no errors"


def facts(source: LiveSource) -> str:
    """One source in one line."""
    return (
        f"height {number(source.height)} · lag {number(source.lag)} · "
        f"silent for {age(source.silent_s)} · block age {age(source.block_age_s)} · "
        f"{size(source.bytes_per_s)}/s"
    )


def source(of: LiveSource) -> dict[str, Any]:
    """One source as a row of the panel."""
    return {
        "worker": of.worker,
        "name": of.name,
        "kind": of.kind,
        "address": of.address or NOTHING,
        "height": number(of.height),
        "lag": NOTHING if of.lag is None else blocks(of.lag),
        "heard": age(of.silent_s),
        "block_age": age(of.block_age_s),
        "throughput": NOTHING if of.bytes_per_s is None else f"{size(of.bytes_per_s)}/s",
        "errors": number(of.error_total),
        "faults": faults(of.errors),
        "marks": list(of.marks),
        "state": of.state,
        "error": of.error,
        "notes": list(of.notes),
    }


def alert(of: SchemaAlert) -> dict[str, Any]:
    """Something new from the exchange as a row of the panel."""
    return {
        "age": age(max(0.0, time.time() - of.at_s)),
        "source": of.source,
        "channel": of.channel,
        "detail": of.detail,
    }


def session(row: SessionRow) -> dict[str, Any]:
    """One session as a row of the list."""
    count = max(row.topic_count, len(row.topics))
    more = count - min(TOPICS_SHOWN, len(row.topics))
    return {
        "id": row.id,
        "tenant": row.tenant,
        "key": row.key_prefix,
        "address": row.address,
        "dialect": row.dialect,
        "door": row.door,
        "edge": row.edge,
        "age": age(max(0.0, time.time() - row.opened_ms / 1000)),
        "topics": ", ".join(row.topics[:TOPICS_SHOWN]) or "nothing",
        "more": more if row.topics else 0,
        "all_topics": "\n".join(row.topics),
        "held": size(row.held_bytes),
        "frames": number(row.held_frames),
        "is_behind": row.held_bytes > 0 or row.held_frames > 0,
        "sent": number(row.sent),
        "conflated": number(row.conflated),
        "shed": number(row.shed),
        "cursor": row.cursor,
    }


def matches(row: SessionRow, query: str) -> bool:
    """Whether a search for `query` finds the session."""
    text = query.lower()
    return any(
        text in field.lower()
        for field in (row.id, row.key_prefix, row.address, row.tenant, row.dialect, *row.topics)
    )
