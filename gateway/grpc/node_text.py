"""Frames of the `raw` topics back as the lines a node writes."""

from __future__ import annotations

from datetime import UTC, datetime

from streaming.core.envelope import Times

_STREAM = b'"stream":"'
_HEIGHT = b'"height":'
_EVENTS = b'"events":['
#: Where the file's lines are the events: a block each.
_WHOLE = b"replica_cmds"


def events(payload: bytes) -> bytes:
    """What stands between the brackets of a frame's events."""
    begin = payload.index(_EVENTS) + len(_EVENTS)
    return payload[begin:-3]


def stream(payload: bytes) -> bytes:
    """Which file a frame is of."""
    begin = payload.index(_STREAM) + len(_STREAM)
    return payload[begin : payload.index(b'"', begin)]


def height(payload: bytes) -> int:
    """The block a frame is of."""
    begin = payload.index(_HEIGHT) + len(_HEIGHT)
    return int(payload[begin : payload.index(b",", begin)])


def line(payload: bytes, times: Times, own: bytes | None = None) -> bytes:
    """The line: a block as it stands in `replica_cmds`, else `local_time`, `block_time`,
    `block_number` and `events`; `own` stands for the events that are asked for."""
    inner = events(payload) if own is None else own
    if stream(payload) == _WHOLE:
        return inner
    return b'{"local_time":"%b","block_time":"%b","block_number":%d,"events":[%b]}' % (
        iso(times.node_ns or times.in_ns),
        iso(times.block_ns),
        height(payload),
        inner,
    )


def iso(time_ns: int) -> bytes:
    """As nodes write times: nanoseconds, and no zone. Nothing where it is not known."""
    if not time_ns:
        return b""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".encode()
