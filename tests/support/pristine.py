"""What truly happened, read from the node files nobody has tampered with.

Written from the file formats alone and without the relay's own readers, so that the two cannot
share a bug.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: The head of every line of a node file.
HEAD = re.compile(
    rb'\{"local_time":"([^"]{19,32})","block_time":"([^"]{19,32})","block_number":(\d+)'
)
FILLS = "node_fills"
DIFFS = "node_raw_book_diffs"
STATUSES = "node_order_statuses"
KINDS = (FILLS, DIFFS, STATUSES)


def digest(event: object) -> str:
    """Equal for equal events, however their JSON was written."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":"))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def time_ns(text: str) -> int:
    """Nanoseconds since 1970 of a node's time stamp: UTC, up to nine decimals, no zone."""
    stem, _, fraction = text.partition(".")
    at = datetime.fromisoformat(stem).replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000_000_000 + int(f"{fraction:0<9}"[:9] or 0)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a customer must get. `key` names it within its stream; `made_ns` is when the
    pristine node wrote it (wall clock, ns)."""

    key: str
    digest: str
    height: int
    made_ns: int = 0


@dataclass(slots=True)
class Pristine:
    """The growing `_by_block` fills of one directory, as public trades by coin.

    `refresh` reads what was appended since the last call.
    """

    directory: Path
    height: int = 0
    trades: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    made_ns: dict[int, int] = field(default_factory=dict)  # by height
    _offsets: dict[Path, int] = field(default_factory=dict)

    def refresh(self) -> None:
        """Take in all whole lines that are new."""
        for path in hour_files(self.directory, FILLS):
            for line in self._new_lines(path):
                self._take(line)

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        offset = self._offsets.get(path, 0)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._offsets[path] = offset + end
        return iter(data[:end].splitlines())

    def _take(self, line: bytes) -> None:
        block = json.loads(line)
        height, made_ns = block["block_number"], time_ns(block["local_time"])
        self.made_ns[height] = made_ns
        for coin, trade in trades_of(block["events"]):
            event = Event(str(trade["tid"]), digest(trade), height, made_ns)
            self.trades[coin].append(event)
        self.height = max(self.height, height)


def hour_files(directory: Path, kind: str) -> list[Path]:
    """The hour files of `kind`, oldest first."""
    found = (directory / f"{kind}_by_block" / "hourly").glob("*/*")
    return sorted(found, key=lambda path: (path.parent.name, int(path.name)))


def trades_of(fills: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(coin, trade)` of a block's `[user, fill]` events, in order of the first side of each.

    Source: protocol reference, `trades`: the side of the crossed fill, users buyer first.
    """
    sides: dict[tuple[str, int], list[tuple[str, dict[str, Any]]]] = {}
    for user, fill in fills:
        sides.setdefault((fill["coin"], fill["tid"]), []).append((user, fill))
    for (coin, tid), pair in sides.items():
        taker = next(fill for _, fill in pair if fill["crossed"])
        users = {fill["side"]: user for user, fill in pair}
        yield (
            coin,
            {
                "coin": coin,
                "side": taker["side"],
                "px": taker["px"],
                "sz": taker["sz"],
                "time": taker["time"],
                "hash": taker["hash"],
                "tid": tid,
                "users": [users["B"], users["A"]],
            },
        )
