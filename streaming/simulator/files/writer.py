"""Node files, exactly as a node started with `--disable-output-file-buffering` leaves them on disk.

Source: recorded files of two mainnet nodes; hyperliquid-dex/node README for the flags.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import orjson

from streaming.simulator.engine.block import Block, Stream, iso_ns

NS = 1_000_000_000
HOUR_NS = 3_600 * NS


class Mode(StrEnum):
    """How a node was told to write: a line a block, a line an event, or (here only) both."""

    BY_BLOCK = "by_block"
    STREAMING = "streaming"
    BOTH = "both"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The directory suffixes this mode writes."""
        return ("by_block", "streaming") if self is Mode.BOTH else (self.value,)


def hour_path(directory: Path, *, stream: str, suffix: str, local_ns: int) -> Path:
    """Where a line written at `local_ns` goes: `…/node_fills_by_block/hourly/20260505/7`, the hour
    unpadded.
    """
    at = datetime.fromtimestamp(local_ns // NS, UTC)
    return directory / f"{stream}_{suffix}" / "hourly" / f"{at:%Y%m%d}" / str(at.hour)


class HourFile:
    """The growing hourly file of one stream and mode. Every line is one unbuffered write."""

    def __init__(self, directory: Path, *, stream: str, suffix: str) -> None:
        self._directory, self._stream, self._suffix = directory, stream, suffix
        self._hour = -1
        self._fd = -1

    def write(self, lines: bytes, *, local_ns: int) -> bool:
        """Append whole lines; True when this opened another hour's file."""
        opened = local_ns // HOUR_NS != self._hour
        if opened:
            self._open(local_ns)
        os.write(self._fd, lines)
        return opened

    def close(self) -> None:
        """Close the file of the current hour."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._hour = -1, -1

    def _open(self, local_ns: int) -> None:
        self.close()
        path = hour_path(
            self._directory, stream=self._stream, suffix=self._suffix, local_ns=local_ns
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size_bytes = os.fstat(self._fd).st_size
        # A killed writer may have left half a line. Ending it spoils one line; appending to it
        # would spoil two.
        if size_bytes and os.pread(self._fd, 1, size_bytes - 1) != b"\n":
            os.write(self._fd, b"\n")
        self._hour = local_ns // HOUR_NS


class NodeWriter:
    """Writes blocks under a node's data directory and keeps the newest `keep_hours` hours; 0 keeps
    everything.
    """

    def __init__(
        self, directory: Path, *, mode: Mode, now_ns: Callable[[], int], keep_hours: int = 0
    ) -> None:
        self._directory = directory
        self._now_ns = now_ns
        self._keep_hours = keep_hours
        self._files = {
            (stream, suffix): HourFile(directory, stream=stream, suffix=suffix)
            for suffix in mode.suffixes
            for stream in Stream
        }
        self._by_block = "by_block" in mode.suffixes
        self._streaming = "streaming" in mode.suffixes
        for path in {
            (directory / f"{stream}_{suffix}" / "hourly") for stream, suffix in self._files
        }:
            path.mkdir(parents=True, exist_ok=True)

    def write(self, block: Block) -> None:
        """Append one block to every file; the three streams one after the other, as a node does."""
        block_time = iso_ns(block.time_ns)
        tail = f'","block_time":"{block_time}","block_number":{block.height},"events":['.encode()
        encoded = {
            stream: [orjson.dumps(event) for event in block.events(stream)] for stream in Stream
        }
        opened = False
        if self._streaming:
            for stream, index in block.journal:
                opened |= self._line(stream, "streaming", tail, encoded[stream][index])
        if self._by_block:
            for stream, events in encoded.items():
                opened |= self._line(stream, "by_block", tail, b",".join(events))
        if opened and self._keep_hours:
            self._prune()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def _line(self, stream: Stream, suffix: str, tail: bytes, events: bytes) -> bool:
        local_ns = self._now_ns()
        head = b'{"local_time":"' + iso_ns(local_ns).encode()
        return self._files[stream, suffix].write(head + tail + events + b"]}\n", local_ns=local_ns)

    def _prune(self) -> None:
        oldest_kept = self._now_ns() // HOUR_NS - self._keep_hours + 1
        for stream, suffix in self._files:
            for day in (self._directory / f"{stream}_{suffix}" / "hourly").iterdir():
                prune_day(day, oldest_hour=oldest_kept)


def prune_day(day: Path, *, oldest_hour: int) -> None:
    """Delete a day directory's hour files before `oldest_hour` (hours since 1970), and the day
    itself once empty.
    """
    try:
        midnight = datetime.strptime(day.name, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return  # not ours
    first_hour = int(midnight.timestamp()) // 3_600
    if first_hour + 24 <= oldest_hour:
        shutil.rmtree(day, ignore_errors=True)
        return
    for file in day.iterdir():
        if file.name.isdigit() and first_hour + int(file.name) < oldest_hour:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
