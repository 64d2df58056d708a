"""Reads: upstreams and how they do, open sessions, rates. Nothing here touches the hot path."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from django.conf import settings

from streaming import sessions
from streaming.bus import keys
from streaming.bus.rates import OTHERS
from streaming.core.topic import Kind, Topic
from streaming.nodes import live
from streaming.sessions import SessionRow

#: A node that wrote no block for this long has stalled, where its worker does not say so itself.
STALL_S = 2.0
#: A public connection that says nothing is pinged each second and ended after 15 s.
PUBLIC_SILENT_S = 5.0
HOURS = 24


# --- upstreams ------------------------------------------------------------------------------------


def are_upstreams_fixed() -> bool:
    """Whether `RELAY_UPSTREAMS` is the list, and the rows are not used."""
    return bool(settings.RELAY_UPSTREAMS)


@dataclass(frozen=True, slots=True)
class LiveSource:
    """One upstream as one worker sees it now. What the worker does not say is None.

    `lag` in blocks behind the best node, `silent_s` since its last message, `errors` by reason,
    `error` why there is no connection now, `notes` what else it says, a line each. Nothing is
    wrong when there are no `marks`; `is_idle` then means that nobody wants anything of it.
    """

    worker: str
    name: str
    kind: str
    address: str
    height: int | None
    lag: int | None
    silent_s: float | None
    block_age_s: float | None
    bytes_per_s: float | None
    errors: Mapping[str, int]
    marks: tuple[str, ...]
    error: str = ""
    notes: tuple[str, ...] = ()
    is_idle: bool = False

    @property
    def state(self) -> str:
        """In one word or two, the worst first."""
        first = (m for m in ("not connected", "disagreeing", "stalled") if m in self.marks)
        return next(first, "") or next(iter(self.marks), "idle" if self.is_idle else "up")

    @property
    def error_total(self) -> int:
        """All errors since the worker began."""
        return sum(self.errors.values())


def live_sources() -> list[LiveSource]:
    """Every upstream of every worker that is alive. Raises live.Unreachable."""
    found = []
    for worker, state in live.worker_states().items():
        for name, source in sorted(state["sources"].items()):
            if isinstance(source, dict):
                found.append(_source(worker, str(name), source))
    best = max((source.height or 0 for source in found), default=0)
    return [_with_lag(source, best) for source in found]


def _source(worker: str, name: str, state: dict[str, Any]) -> LiveSource:
    kind = str(state.get("via") or state.get("kind") or "")
    silent_s = _number(state.get("silent_s"))
    marks = [str(mark) for mark in state.get("marks") or ()]
    is_node = state.get("kind") not in ("public", "polled")
    if "marks" not in state and is_node and (silent_s is None or silent_s > STALL_S):
        marks.append("stalled")
    if state.get("books_ready") is False and is_node:
        marks.append("no books yet")
    if state.get("connected") is False:
        marks.append("not connected")
    if state.get("kind") == "public":
        marks += _public_marks(state, silent_s)
    if state.get("kind") == "polled" and state.get("topics") and not state.get("answered"):
        marks.append("not answered")
    height = _number(state.get("height"))
    # Without a block neither lag nor age is known, though a worker counts them as 0.
    lag = _number(state.get("lag")) if height else None
    return LiveSource(
        worker=worker,
        name=name,
        kind=kind,
        address=str(state.get("address") or ""),
        height=int(height) if height else None,
        lag=None if lag is None else int(lag),
        silent_s=silent_s,
        block_age_s=_number(state.get("block_age_s")) if height else None,
        bytes_per_s=_number(state.get("bytes_per_s")),
        errors=_errors(state),
        marks=tuple(marks),
        error=str(state.get("error") or ""),
        notes=tuple(_notes(state)),
        is_idle=state.get("connections") == 0 or state.get("topics") == 0,
    )


def _public_marks(state: dict[str, Any], silent_s: float | None) -> Iterable[str]:
    if state.get("books_ready") is False:
        yield "no names yet"  # its /info has not told what there is
    if state.get("subscriptions"):
        if not state.get("connections"):
            yield "not connected"
        elif silent_s is None or silent_s > PUBLIC_SILENT_S:
            yield "stalled"


def _errors(state: dict[str, Any]) -> dict[str, int]:
    """By reason: what is wrong in the files or frames, and with the connection."""
    faults = state.get("faults")
    errors = {
        str(reason): int(_number(count) or 0)
        for reason, count in (faults.items() if isinstance(faults, dict) else ())
    }
    for name, reason in (("errors", "connection"), ("lost", "resumed with a hole")):
        if count := int(_number(state.get(name)) or 0):
            errors[reason] = errors.get(reason, 0) + count
    return errors


def _notes(state: dict[str, Any]) -> Iterable[str]:
    if isinstance(not_served := state.get("not_served"), list) and not_served:
        yield f"not served: {', '.join(map(str, not_served))}"
    if "connections" in state:
        parts = ("connections", "subscriptions", "waiting")
        yield ", ".join(f"{_number(state.get(part)) or 0:,.0f} {part}" for part in parts)
    gateway = state.get("gateway")
    kinds = (gateway if isinstance(gateway, dict) else state).get("kinds")
    for kind, its in sorted(kinds.items() if isinstance(kinds, dict) else ()):
        if isinstance(its, dict):
            yield _kind_note(str(kind), its)


def _kind_note(kind: str, its: dict[str, Any]) -> str:
    silent_s = _number(its.get("silent_s"))
    if silent_s is None or silent_s < 0:
        return f"{kind}: no file yet"
    return f"{kind}: {_number(its.get('height')) or 0:,.0f}, grew {silent_s:,.1f} s ago"


def _with_lag(source: LiveSource, best: int) -> LiveSource:
    if source.lag is not None or source.height is None:
        return source
    values = {name: getattr(source, name) for name in LiveSource.__slots__}
    return LiveSource(**{**values, "lag": best - source.height})


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class SchemaAlert:
    """Something the exchange sends that was never seen before, and when it was found."""

    at_s: float
    source: str
    channel: str
    detail: str


def schema_alerts() -> list[SchemaAlert]:
    """What was found so far, newest first. Raises live.Unreachable."""
    with live.bus() as client:
        texts: Any = client.hvals(keys.SCHEMA_ALERTS)
    found = []
    for text in texts:
        try:
            found.append(msgspec.json.decode(text, type=SchemaAlert))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # of another version
    return sorted(found, key=lambda alert: -alert.at_s)


# --- open sessions --------------------------------------------------------------------------------


def open_sessions(tenant: int | str | None = None) -> list[SessionRow]:
    """The open sessions of all edges, oldest first; those of one tenant by its id or slug. Raises
    live.Unreachable."""
    with live.bus() as client:
        members: Any = client.smembers(keys.SESSION_EDGES)
        edges = sorted(edge.decode() for edge in members)
        with client.pipeline(transaction=False) as pipe:
            for edge in edges:
                pipe.hvals(keys.SESSIONS.format(edge=edge))
                pipe.exists(keys.SESSIONS.format(edge=edge))
            answers = pipe.execute()
    rows = [row for text in _flat(answers[::2]) if (row := _row(text)) is not None]
    if tenant is not None:
        rows = [row for row in rows if tenant in (row.tenant_id, row.tenant)]
    return sorted(rows, key=lambda row: (row.opened_ms, row.id))


def count_sessions() -> int:
    """How many sessions are open, without reading them. Raises live.Unreachable."""
    with live.bus() as client:
        members: Any = client.smembers(keys.SESSION_EDGES)
        with client.pipeline(transaction=False) as pipe:
            for edge in members:
                pipe.hlen(keys.SESSIONS.format(edge=edge.decode()))
            return sum(pipe.execute())


def open_session(session_id: str) -> SessionRow | None:
    """One open session. Raises live.Unreachable."""
    edge = sessions.edge_of(session_id)
    with live.bus() as client:
        text: Any = client.hget(keys.SESSIONS.format(edge=edge), session_id)
    return _row(text) if text else None


def _row(text: bytes) -> SessionRow | None:
    try:
        return sessions.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # an edge of another version, in a rolling deploy


def _flat(lists: Iterable[list[bytes]]) -> Iterable[bytes]:
    for values in lists:
        yield from values


# --- rates ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """What one topic, or the average topic of a kind, says in an hour.

    `minutes` is how long it was followed and counted within the last 24 hours, summed over workers:
    0 means that nothing is known.
    """

    messages_per_hour: float
    bytes_per_hour: float
    minutes: int


def topic_rates(of: Topic | Kind, *, now_s: float | None = None) -> Rate:
    """The rate over the last 24 hours. Raises live.Unreachable.

    For a kind: of one topic of it, on average over those that were followed.
    """
    hour = int((time.time() if now_s is None else now_s) // 3600)
    with live.bus() as client:
        members: Any = client.zrange(keys.RATES_WORKERS, 0, -1)
        hashes = [
            keys.RATES.format(hour=hour - back, worker=worker.decode())
            for worker in members
            for back in range(HOURS + 1)
        ]
        with client.pipeline(transaction=False) as pipe:
            for key in hashes:
                if isinstance(of, Topic):
                    pipe.hmget(key, [f"{letter} {of.name}" for letter in "mbu"])
                else:
                    pipe.hgetall(key)
            answers = pipe.execute()
    if isinstance(of, Topic):
        rows = [[int(units or 0) for units in answer] for answer in answers]
        return _rate(*(sum(row[place] for row in rows) for place in range(3)))
    return _rate(*_sums_of_kind(of, answers))


def _sums_of_kind(kind: Kind, hashes: Iterable[dict[bytes, bytes]]) -> tuple[int, int, int]:
    sums = {b"m": 0, b"b": 0, b"u": 0}
    exact, prefix = kind.value.encode(), f"{kind.value} ".encode()
    for counts in hashes:
        for field, units in counts.items():
            letter, _, name = field.partition(b" ")
            if name == exact or name.startswith(prefix):
                sums[letter] += int(units)
    return sums[b"m"], sums[b"b"], sums[b"u"]


def _rate(messages: int, size_bytes: int, minutes: int) -> Rate:
    if not minutes:
        return Rate(0.0, 0.0, 0)
    return Rate(60 * messages / minutes, 60 * size_bytes / minutes, minutes)


def minute_rates(*, minutes: int = HOURS * 60) -> list[tuple[int, dict[str, tuple[int, int]]]]:
    """Minute by minute, newest last: (wall time in ms, kind → (messages, bytes)).

    Of the worker that counted most, because two count the same. Raises live.Unreachable.
    """
    with live.bus() as client:
        members: Any = client.zrange(keys.RATES_WORKERS, 0, -1)
        with client.pipeline(transaction=False) as pipe:
            for worker in members:
                pipe.xrevrange(keys.RATES_MINUTES.format(worker=worker.decode()), count=minutes)
            answers = pipe.execute()
    by_minute: dict[int, dict[str, tuple[int, int]]] = {}
    for rows in answers:
        for id_, fields in rows:
            minute = int(id_.partition(b"-")[0]) // 60_000
            kinds = by_minute.setdefault(minute, {})
            for kind, text in fields.items():
                messages, size_bytes = (int(word) for word in text.split())
                name = kind.decode()
                kinds[name] = max(kinds.get(name, (0, 0)), (messages, size_bytes))
    return [(minute * 60_000, by_minute[minute]) for minute in sorted(by_minute)][-minutes:]


__all__ = [
    "OTHERS", "LiveSource", "Rate", "SchemaAlert", "are_upstreams_fixed", "count_sessions",
    "live_sources", "minute_rates", "open_session", "open_sessions", "schema_alerts", "topic_rates",
]  # fmt: skip
