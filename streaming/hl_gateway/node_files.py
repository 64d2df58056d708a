"""Where a node's output files are, and reading a whole directory of them at once.

A node writes `<data_dir>/<kind>_<mode>/hourly/<YYYYMMDD>/<H>`, H unpadded, both by the local time
of writing: a node that catches up puts blocks of 12:56 into file 13. Recordings lie flat, as
`<kind>_<mode>.<anything>.jsonl[.gz]`.
"""

from __future__ import annotations

import gzip
import heapq
import io
import re
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from streaming.core.blocks import MARKET_KINDS, FileKind, RawBlock
from streaming.hl_gateway.assemble import (
    MAX_LINE_BYTES,
    BlockAssembler,
    FaultReason,
    Faults,
    FileMode,
    LineBuffer,
)

#: Within a height: what traded, then what rests, then the bulk that explains it, then the rest.
KIND_RANK: Mapping[FileKind, int] = {
    kind: rank
    for rank, kind in enumerate(
        (
            FileKind.FILLS,
            FileKind.DIFFS,
            FileKind.STATUSES,
            FileKind.MISC,
            FileKind.TWAP,
            FileKind.WRITER,
            FileKind.HIP3_ORACLE,
            FileKind.BLOCKS,
        )
    )
}

_DATE = re.compile(r"\d{8}\Z")
_HOUR = re.compile(r"(\d{1,2})(\.gz)?\Z")
_FLAT_SUFFIX = re.compile(r"\.(?:.*\.)?jsonl(?:\.gz)?\Z")
_CHUNK_BYTES = 1024 * 1024


class NoNodeFiles(Exception):
    """The directory holds no node file of any wanted kind and mode."""


@dataclass(frozen=True, slots=True, order=True)
class HourFile:
    """One hourly file; ordered by time. `date` is YYYYMMDD as a number."""

    date: int
    hour: int
    path: str


class NodeFiles:
    """Finds the files of a node under `data_dir`. Every call looks at the disk; a missing directory
    is just empty.

    Raises:
        OSError: from any method, when something is there but cannot be read (permission, I/O).
    """

    def __init__(self, data_dir: Path | str) -> None:
        self.data_dir = Path(data_dir)

    def hourly(self, kind: FileKind, mode: FileMode) -> Path:
        """The directory of the date directories, whether it exists or not."""
        return self.data_dir / f"{kind}_{mode}" / "hourly"

    def dates(self, kind: FileKind, mode: FileMode) -> list[Path]:
        """The date directories, oldest first."""
        hourly = self.hourly(kind, mode)
        return [hourly / name for name in sorted(_names(hourly)) if _DATE.match(name)]

    def hours(
        self, kind: FileKind, mode: FileMode, *, since_date: int = 0, archived: bool = False
    ) -> list[HourFile]:
        """The hour files since a date (YYYYMMDD), oldest first; also `<H>.gz` when `archived`."""
        found: dict[tuple[int, int], HourFile] = {}
        for directory in self.dates(kind, mode):
            date = int(directory.name)
            if date < since_date:
                continue
            # Plain before packed: an archiver leaves both for a moment, and they hold the same
            # lines.
            for name in sorted(_names(directory), key=len):
                hour = _HOUR.match(name)
                if hour and int(hour[1]) < 24 and (archived or not hour[2]):
                    file = HourFile(date, int(hour[1]), str(directory / name))
                    found.setdefault((file.date, file.hour), file)
        return sorted(found.values())

    def last_write_ns(self, kind: FileKind, mode: FileMode) -> int:
        """When the newest hour file last changed (wall clock, ns); -1 when there is none."""
        for directory in reversed(self.dates(kind, mode)):
            files = self.hours(kind, mode, since_date=int(directory.name))
            for file in reversed(files):
                try:
                    return Path(file.path).stat().st_mtime_ns
                except FileNotFoundError:
                    continue  # an operator's clean-up was faster
        return -1

    def newest_mode(self, kind: FileKind) -> FileMode | None:
        """The mode whose files were written last, by block when equal; None when there are no
        files.
        """
        written = [(self.last_write_ns(kind, mode), mode) for mode in FileMode]
        best = max(written, key=lambda pair: pair[0])
        return best[1] if best[0] >= 0 else None

    def recordings(self, kind: FileKind, mode: FileMode) -> list[Path]:
        """Flat recorded files of one kind and mode, in the order of the numbers in their names."""
        stem = f"{kind}_{mode}"
        names = [
            name
            for name in _names(self.data_dir)
            if name.startswith(stem) and _FLAT_SUFFIX.match(name[len(stem) :])
        ]
        numbered = sorted(
            names, key=lambda name: ([int(n) for n in re.findall(r"\d+", name)], name)
        )
        return [self.data_dir / name for name in numbered]

    def all_files(self, kind: FileKind, mode: FileMode) -> list[Path]:
        """Everything readable of one kind and mode: the hours, then the recordings."""
        hours = [Path(file.path) for file in self.hours(kind, mode, archived=True)]
        return hours + self.recordings(kind, mode)


def read_directory(
    data_dir: Path | str,
    *,
    mode: FileMode | None = None,
    kinds: Collection[FileKind] = MARKET_KINDS,
    faults: Mapping[FileKind, Faults] | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[RawBlock]:
    """All blocks of a node directory or of flat recordings, from the first file on, merged by
    height.

    Within a height: fills, diffs, statuses, in both modes. By-block files also give their empty
    blocks, streaming files have none. The end of input closes what is open; a torn last line is
    counted in `faults`. Without `mode`, each kind takes the mode whose newest file is later, by
    block when equal: the same choice on every machine. Memory stays bounded: one chunk and one
    block of each kind.

    Raises:
        NoNodeFiles: at once, when there is nothing to read.
        OSError: a file cannot be read.
    """
    files = NodeFiles(data_dir)
    sources = []
    for kind in sorted(set(kinds), key=KIND_RANK.__getitem__):
        chosen = mode or _later_mode(files, kind)
        paths = files.all_files(kind, chosen)
        if paths:
            counted = faults[kind] if faults is not None else Faults(kind)
            assembler = BlockAssembler(kind, chosen, faults=counted)
            sources.append(_read_files(paths, assembler, max_line_bytes=max_line_bytes))
    if not sources:
        wanted = mode or " or ".join(FileMode)
        raise NoNodeFiles(f"no node files ({wanted}) in {files.data_dir}")
    return heapq.merge(*sources, key=lambda block: (block.height, KIND_RANK[block.kind]))


def _later_mode(files: NodeFiles, kind: FileKind) -> FileMode:
    def newest(mode: FileMode) -> tuple[int, int, int]:
        hours = files.hours(kind, mode, archived=True)
        last = (hours[-1].date, hours[-1].hour) if hours else (-1, -1)
        return (*last, len(files.recordings(kind, mode)))

    # Not by modification time: a clone or an unpacked archive sets those in any order.
    by_block, streaming = newest(FileMode.BY_BLOCK), newest(FileMode.STREAMING)
    return FileMode.STREAMING if streaming > by_block else FileMode.BY_BLOCK


def _read_files(
    paths: list[Path], assembler: BlockAssembler, *, max_line_bytes: int
) -> Iterator[RawBlock]:
    for path in paths:
        buffer = LineBuffer(assembler.faults, max_line_bytes=max_line_bytes)
        for chunk in _chunks(path, assembler.faults):
            lines = buffer.feed(chunk)
            if lines:
                yield from assembler.feed(lines, read_ns=time.time_ns(), at_ns=0)
        last = buffer.finish()
        if not last:
            continue
        if _is_json(last):
            # Tools that cut recordings often leave off the last newline; the line is whole all the
            # same.
            yield from assembler.feed([last], read_ns=time.time_ns(), at_ns=0)
        else:
            assembler.faults.add(FaultReason.TORN, last)
    yield from assembler.close()


def _chunks(path: Path, faults: Faults) -> Iterator[bytes]:
    opener = gzip.open if path.suffix == ".gz" else open
    with cast(io.BufferedReader, opener(path, "rb")) as stream:
        while True:
            try:
                # `read` of a torn archive would raise before it gives what it has unpacked.
                chunk = stream.read1(_CHUNK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                # A half-copied archive: what came out of it so far is good, one more line may be
                # lost.
                faults.add(FaultReason.TORN, str(path).encode())
                return
            if not chunk:
                return
            yield chunk


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _names(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
