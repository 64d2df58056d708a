"""A sample of what nodes write and answer, held against what they are known to.

Whatever is found, blocks and answers have passed already: this looks at one line of each kind a
second, and at one answer of each type. It never raises: what it cannot look at, it leaves.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
import structlog

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.line_sample import line_sample
from streaming.core.node_lines import parse_time_ns
from streaming.core.schema_sentinel import Finding, SchemaSentinel
from streaming.upstream import metrics

log = structlog.get_logger(__name__)

EVERY_NS = 1_000_000_000
#: An answer above this is not decoded a second time.
MAX_ANSWER_BYTES = 64 * 1024
#: The chain's own pace, from two samples: between their heights and their times.
BLOCKS = "node blocks"

Tell = Callable[[str, Finding], None]
Info = Callable[[bytes], Awaitable[bytes]]


def log_finding(source: str, finding: Finding) -> None:
    """Tell it in the log alone."""
    log.warning(
        "upstream_schema_changed",
        source=source,
        change=str(finding.change),
        channel=finding.channel,
        detail=finding.detail,
    )


class SchemaWatch:
    """`tell(source, finding)` is called once for each thing that is new."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._sentinel = SchemaSentinel()
        self._due_ns: dict[str, int] = {}
        self._last: tuple[int, int] | None = None  # height and time of the last sample
        self._has_failed = False

    def lines(self, source: str, blocks: Iterable[RawBlock], *, now_ns: int) -> None:
        """Look at what a node has brought."""
        due_ns = self._due_ns
        for block in blocks:
            if now_ns >= due_ns.get(block.kind, 0) and block.kind is not FileKind.BLOCKS:
                due_ns[block.kind] = now_ns + EVERY_NS
                try:
                    self._line(source, block, now_ns=now_ns)
                except Exception:  # a line nobody foresaw
                    self._fail(source)

    def watched(self, info: Info, *, source: str) -> Info:
        """`info`, with a look at its answers."""

        async def watched(payload: bytes) -> bytes:
            body = await info(payload)
            try:
                self._answer(source, payload, body, now_ns=time.monotonic_ns())
            except Exception:  # an answer nobody foresaw
                self._fail(source)
            return body

        return watched

    def _line(self, source: str, block: RawBlock, *, now_ns: int) -> None:
        body = line_sample(block.lines[0]) if block.lines else None
        if body is None:
            return  # whether it is a line at all is for others to tell
        self._sentinel.observe(block.kind, body, now_ns=now_ns)
        if block.kind is FileKind.FILLS:
            self._pace(body)
        self._drain(source)

    def _pace(self, body: dict[str, Any]) -> None:
        try:
            height, block_ns = int(body["block_number"]), parse_time_ns(body["block_time"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return
        before, self._last = self._last, (height, block_ns)
        if before is not None and height > before[0]:
            every_s = (block_ns - before[1]) / (height - before[0]) / 1e9
            self._sentinel.pace(BLOCKS, every_s)

    def _answer(self, source: str, payload: bytes, body: bytes, *, now_ns: int) -> None:
        if len(body) > MAX_ANSWER_BYTES:
            return
        try:
            channel = f"info {orjson.loads(payload)['type']}"
            if now_ns < self._due_ns.get(channel, 0):
                return
            self._due_ns[channel] = now_ns + EVERY_NS
            self._sentinel.observe(channel, orjson.loads(body), now_ns=now_ns)
        except (ValueError, KeyError, TypeError):
            return
        self._drain(source)

    def _fail(self, source: str) -> None:
        metrics.SCHEMA_FAILURES.labels(source).inc()
        if not self._has_failed:
            self._has_failed = True
            log.exception("schema_watch_failed", source=source)

    def _drain(self, source: str) -> None:
        for finding in self._sentinel.drain():
            self._tell(source, finding)
