"""The meter file: counters in shared memory that outlive the process that counts.

After `kill -9` the kernel still holds the dirty pages of an mmap, so every count that was stored is
in the file.

The words of the file are described in `layout.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from billing.metering.batch import (
    CHANNEL_BYTES,
    COIN_BYTES,
    REASON_BYTES,
    REGION_BYTES,
    VERSION,
    Batch,
    BatchId,
    MinutesLine,
    UsageLine,
)
from billing.metering.layout import (
    CHANNEL,
    FILE_VERSION,
    HEADER_WORDS,
    LAYOUTS,
    MAGIC,
    METRICS,
    NEWEST,
    OPEN_HOUR,
    REGION,
    SEALED_SEQ,
    SEALING_HOUR,
    SEALING_SEQ,
    SLOT_COUNT,
    SLOT_WORDS,
    TOTALS,
)

SUFFIX = ".meter"
#: In the place of a name that is none any more.
UNREADABLE = "unreadable"

#: 1,024 slots of 160 bytes: 160 KiB, enough for about 20 keys of 50 coins, and grown by as much
#: again.
GROW_SLOTS = 1_024
#: Slots that are looked at at once for anything to seal.
PIECE_SLOTS = 4_096


class NotAMeterFile(ValueError):
    """Too short, of somebody else, or of a version this process does not know."""


class Seal(NamedTuple):
    """A batch that is being sealed: its number and the UTC hour it belongs to."""

    seq: int
    hour: datetime


class MeterFile:
    """One mapped meter file under an exclusive lock, which the kernel frees when the process
    dies."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self.words = self._map()
        if self.words[0] != MAGIC or self.words[1] not in LAYOUTS:
            raise NotAMeterFile(f"{path.name}: not a meter file of version 1 to {FILE_VERSION}")
        self._layout = LAYOUTS[self.words[1]]
        self.worker = uuid.UUID(bytes=self.words[2:4].tobytes()).hex
        fits = (len(self.words) - HEADER_WORDS) // self._layout.slot_words
        if self.slot_count > fits:
            raise NotAMeterFile(f"{path.name}: {self.slot_count} slots, but room for {fits}")

    @classmethod
    def create(cls, folder: Path, *, now: datetime, region: str = "") -> MeterFile:
        """A new file for a new worker of this region (at most 32 visible ASCII characters). Raises
        OSError when the disk has no room for it."""
        worker = uuid.uuid4()
        # Made and locked under another name: whoever looks for dead workers' files must never find
        # one of a living process without its lock.
        building = folder / f"{worker.hex}.new"
        fd = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(fd, 0, (HEADER_WORDS + GROW_SLOTS * SLOT_WORDS) * 8)
            place = memoryview(region.encode("ascii").ljust(REGION_BYTES, b"\0")).cast("Q")
            uuid_words = memoryview(worker.bytes).cast("Q")
            header = [FILE_VERSION, *uuid_words, 0, 0, 0, hour_of(now), 0, *place]
            os.pwrite(fd, b"".join(word.to_bytes(8, sys.byteorder) for word in header), 8)
            os.pwrite(fd, MAGIC.to_bytes(8, sys.byteorder), 0)
            path = folder / f"{worker.hex}{SUFFIX}"
            building.rename(path)
            return cls(path, fd)
        except BaseException:
            os.close(fd)
            building.unlink(missing_ok=True)
            raise

    @classmethod
    def take_over(cls, path: Path) -> MeterFile | None:
        """The file of a dead worker; None while its worker lives, or when somebody else has taken
        it over.

        Raises NotAMeterFile for a file that cannot be read as one.
        """
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held the lock before us may have finished and deleted it meanwhile.
            if os.fstat(fd).st_nlink == 0:
                os.close(fd)
                return None
            return cls(path, fd)
        except BaseException as error:
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
            if isinstance(error, OSError) and error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise

    @property
    def slot_count(self) -> int:
        """Slots in use."""
        return self.words[SLOT_COUNT]

    @property
    def is_sealing(self) -> bool:
        """Whether a batch has been begun and not yet finished."""
        return self.words[SEALING_SEQ] != self.words[SEALED_SEQ]

    @property
    def region(self) -> str:
        """Where the worker was; "" in files of version 1."""
        return _text(self.words[REGION : REGION + REGION_BYTES // 8], empty="")

    def new_slot(
        self, key_id: int, channel: str, *, coin: str = "", reason: str = "", hour: int = 0
    ) -> int:
        """Allocate a slot and answer its offset in words; with an `hour`, one of minutes. Raises
        OSError when the file cannot grow."""
        count = self.slot_count
        offset = HEADER_WORDS + count * SLOT_WORDS
        if offset + SLOT_WORDS > len(self.words):
            self._grow()
        self.words[offset] = key_id
        self._write(offset + CHANNEL, channel, CHANNEL_BYTES)
        self._write(offset + NEWEST.coin, coin, COIN_BYTES)
        self._write(offset + NEWEST.reason, reason, REASON_BYTES)
        self.words[offset + NEWEST.hour] = hour
        # Last, so that a kill in between leaves a slot nobody counts as there.
        self.words[SLOT_COUNT] = count + 1
        return offset

    def reopen(self, offset: int, hour: int) -> bool:
        """Use a slot of minutes for another hour, if all that it holds is sealed."""
        words, totals, sealed = self.words, offset + TOTALS, offset + NEWEST.sealed
        if self.is_sealing or words[totals] != words[sealed]:
            return False
        # In this order, so that nothing in it is ever a minute that was not.
        words[totals] = words[offset + NEWEST.sealing] = words[sealed] = 0
        words[offset + NEWEST.hour] = hour
        return True

    def begin_seal(self, now: datetime) -> Seal | None:
        """Step 0, on the thread that counts: freeze what was counted. None when there is nothing to
        seal.

        While a batch is still being written (the disk is full), that one is answered again and
        counting goes on; what is counted meanwhile belongs to the hour in which the wait began.
        """
        if self.is_sealing:
            return self.sealing()
        words = self.words
        if not self._has_unsealed():
            words[OPEN_HOUR] = hour_of(now)
            return None
        for metric in range(METRICS):
            # Strided slices: one C loop for each metric, under 10 ms for 100,000 slots.
            totals, sealing, _ = self._columns(metric)
            words[sealing] = words[totals]
        words[SEALING_HOUR] = words[OPEN_HOUR]
        words[OPEN_HOUR] = hour_of(now)
        # From here the batch exists: whoever finds the file dead writes it under this number.
        words[SEALING_SEQ] = words[SEALED_SEQ] + 1
        return self.sealing()

    def sealing(self) -> Seal | None:
        """The batch that is being sealed, if there is one."""
        if not self.is_sealing:
            return None
        hour = datetime.fromtimestamp(self.words[SEALING_HOUR], tz=UTC)
        return Seal(self.words[SEALING_SEQ], hour)

    def sealing_batch(self) -> Batch:
        """Step 1 writes this; any thread may build it. Raises RuntimeError when nothing is being
        sealed."""
        seal = self.sealing()
        if seal is None:
            raise RuntimeError("nothing is being sealed")
        changed = list(self._changed())
        return Batch(
            v=VERSION,
            worker=self.worker,
            seq=seal.seq,
            hour=seal.hour,
            lines=list(self._lines(changed)),
            minutes=list(self._minutes(changed)),
            region=self.region,
        )

    def finish_seal(self) -> None:
        """Step 2, once the batch is safe on disk: what it holds will not be sealed again. Any
        thread may call it."""
        words = self.words
        for metric in range(METRICS):
            _, sealing, sealed = self._columns(metric, words)
            words[sealed] = words[sealing]
        words[SEALED_SEQ] = words[SEALING_SEQ]

    def close(self) -> None:
        """Unlock. The counters stay in the file."""
        # The mapping stays until nobody refers to it: a late count must not crash the one who
        # delivers.
        # It also holds a copy of the descriptor, so closing ours alone would keep the lock.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)

    def delete(self) -> None:
        """Remove the file, whose batches are all in the spool, and unlock."""
        # First removed, then unlocked: see `take_over`.
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.close()

    def batch_id(self, seal: Seal) -> BatchId:
        """The id of a batch of this worker."""
        return BatchId(self.worker, seal.seq)

    def _changed(self) -> Iterator[int]:
        """Offsets of the slots in which the seal holds something."""
        words = self.words
        differ: set[int] = set()
        for metric in range(METRICS):
            # Whole columns: a look at each slot takes 2 µs, in which nothing is delivered.
            _, sealing, sealed = self._columns(metric, words)
            pairs = zip(words[sealing].tolist(), words[sealed].tolist(), strict=True)
            differ.update(number for number, (told, kept) in enumerate(pairs) if told != kept)
        for number in sorted(differ):
            yield HEADER_WORDS + number * self._layout.slot_words

    def _lines(self, offsets: list[int]) -> Iterator[UsageLine]:
        words, layout = self.words, self._layout
        for offset in offsets:
            if layout.hour and words[offset + layout.hour]:
                continue
            # Never below zero, also where a power cut kept some pages and lost others: rather bill
            # too little.
            messages, size_bytes, requests = (
                max(0, words[offset + layout.sealing + n] - words[offset + layout.sealed + n])
                for n in range(METRICS)
            )
            if messages or size_bytes or requests:
                channel = self._read(offset + CHANNEL, CHANNEL_BYTES, empty=UNREADABLE)
                coin = reason = ""
                if layout.coin:
                    coin = self._read(offset + layout.coin, COIN_BYTES)
                    reason = self._read(offset + layout.reason, REASON_BYTES)
                key_id = words[offset]
                yield UsageLine(key_id, channel, messages, size_bytes, requests, coin, reason)

    def _minutes(self, offsets: list[int]) -> Iterator[MinutesLine]:
        words, layout = self.words, self._layout
        for offset in offsets:
            hour = words[offset + layout.hour] if layout.hour else 0
            news = words[offset + layout.sealing] & ~words[offset + layout.sealed]
            if hour and news:
                coin = self._read(offset + layout.coin, COIN_BYTES, empty=UNREADABLE)
                yield MinutesLine(words[offset], coin, hour, news)

    def _has_unsealed(self) -> bool:
        words = self.words
        for metric in range(METRICS):
            totals, _, sealed = self._columns(metric)
            # A piece at a time: where anything is delivered, the first tells.
            size = PIECE_SLOTS * totals.step
            for start in range(0, totals.stop - totals.start, size):
                piece, kept = (
                    words[slice(of.start + start, min(of.start + start + size, of.stop), of.step)]
                    for of in (totals, sealed)
                )
                if piece.tolist() != kept.tolist():
                    return True
        return False

    def _read(self, offset: int, size_bytes: int, *, empty: str = "") -> str:
        return _text(self.words[offset : offset + size_bytes // 8], empty=empty)

    def _write(self, offset: int, text: str, size_bytes: int) -> None:
        name = memoryview(text.encode("ascii").ljust(size_bytes, b"\0")).cast("Q")
        self.words[offset : offset + size_bytes // 8] = name

    def _columns(self, metric: int, words: memoryview | None = None) -> tuple[slice, slice, slice]:
        """A metric's totals, sealing and sealed of all slots."""
        layout = self._layout
        # The counting thread may add slots and grow the file meanwhile; what this mapping does not
        # show is not in the seal.
        fits = (len(self.words if words is None else words) - HEADER_WORDS) // layout.slot_words
        end = HEADER_WORDS + min(fits, self.slot_count) * layout.slot_words
        totals, sealing, sealed = (
            slice(HEADER_WORDS + start + metric, end, layout.slot_words)
            for start in (layout.totals, layout.sealing, layout.sealed)
        )
        return totals, sealing, sealed

    def _grow(self) -> None:
        size_bytes = len(self.words) * 8
        # Allocated, not just extended: writing to a hole on a full disk would be a SIGBUS in the
        # middle of a count.
        os.posix_fallocate(self._fd, size_bytes, GROW_SLOTS * SLOT_WORDS * 8)
        # A second mapping of the same pages. The old one goes when the last thread has let go of
        # it.
        self.words = self._map()

    def _map(self) -> memoryview:
        size_bytes = os.fstat(self._fd).st_size
        if size_bytes < HEADER_WORDS * 8:
            raise NotAMeterFile(f"{self.path.name}: {size_bytes} bytes, less than a header")
        whole = size_bytes // 8 * 8
        return memoryview(mmap.mmap(self._fd, whole)).cast("Q")


def _text(words: memoryview, *, empty: str) -> str:
    text = words.tobytes().rstrip(b"\0").decode("ascii", "replace")
    if not text:
        return empty
    # Only a power cut can leave anything else; the counts are worth more than the name.
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return text if is_plain else UNREADABLE


def hour_of(moment: datetime) -> int:
    """The UTC hour of an aware time, as the seconds since 1970 at which it began."""
    seconds = int(moment.timestamp())
    return seconds - seconds % 3600


def is_locked(path: Path) -> bool:
    """Whether a living process holds the meter file at `path`."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
