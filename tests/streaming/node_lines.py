"""Node files for the tailer's tests: lines as a node writes them, and where to write them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streaming.core.blocks import FileKind
from streaming.hl_gateway.assemble import FileMode

BY_BLOCK, STREAMING = FileMode.BY_BLOCK, FileMode.STREAMING
FILLS, DIFFS, STATUSES = FileKind.FILLS, FileKind.DIFFS, FileKind.STATUSES
SECOND_NS = 1_000_000_000


def node_line(height: int, *events: str) -> bytes:
    """One line without its newline; an event is any text, given as a JSON string. Times rise with
    heights.
    """
    listed = ",".join(f'"{event}"' for event in events)
    second = datetime(2026, 5, 5, 17, 39, 13, tzinfo=UTC) + timedelta(seconds=height % 1_000_000)
    time = second.strftime("%Y-%m-%dT%H:%M:%S")
    return (
        f'{{"local_time":"{time}.394308154","block_time":"{time}.024084407",'
        f'"block_number":{height},"events":[{listed}]}}'
    ).encode()


class NodeDirectory:
    """The data directory of a made-up node."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(
        self, kind: FileKind, mode: FileMode, *, hour: int = 17, date: str = "20260505"
    ) -> Path:
        return self.root / f"{kind}_{mode}" / "hourly" / date / str(hour)

    def write(
        self, kind: FileKind, mode: FileMode, data: bytes, *, hour: int = 17, date: str = "20260505"
    ) -> Path:
        """Append `data` in one system call, as a node without output buffering does."""
        path = self.path(kind, mode, hour=hour, date=date)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        return path
