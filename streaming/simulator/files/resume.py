"""Where an earlier run left off, read from the node files it wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TAIL_BYTES = (
    4 * 1024 * 1024
)  # the last whole line must be inside; a busy status line of one block has 0.6 MB
HEADER = re.compile(rb'"block_time":"([^"]+)","block_number":(\d+)')


@dataclass(frozen=True, slots=True)
class LastBlock:
    """The newest block found on disk."""

    height: int
    time_ns: int


def last_block(directory: Path) -> LastBlock | None:
    """The newest block in any node file under `directory`, or None when there is none."""
    found = [block for path in _newest_hours(directory) if (block := _last_in(path)) is not None]
    return max(found, key=lambda block: block.height, default=None)


def _newest_hours(directory: Path) -> Iterator[Path]:
    for hourly in directory.glob("node_*/hourly"):
        hours = [
            path
            for path in hourly.glob("*/*")
            if path.name.isdigit() and path.parent.name.isdigit()
        ]
        # A run that died between creating an hour's file and its first line leaves it empty: look
        # one further back.
        hours.sort(key=lambda path: (path.parent.name, int(path.name)))
        yield from hours[-2:]


def _last_in(path: Path) -> LastBlock | None:
    with path.open("rb") as file:
        size_bytes = file.seek(0, 2)
        file.seek(max(0, size_bytes - TAIL_BYTES))
        headers = HEADER.findall(file.read())
    if not headers:
        return None
    return max(
        (LastBlock(int(height), iso_to_ns(time.decode())) for time, height in headers[-3:]),
        key=_height,
    )


def _height(block: LastBlock) -> int:
    return block.height


def iso_to_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO time with up to nine decimals, read as UTC when it names no
    zone.
    """
    stem, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    at = datetime.fromisoformat(stem)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return int(at.timestamp()) * 1_000_000_000 + int(f"{fraction:0<9}"[:9] or 0)
