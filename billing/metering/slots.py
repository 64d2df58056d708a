"""The meter file: counters in shared memory that outlive the process that counts.

After `kill -9` the kernel still holds the dirty pages of an mmap, so every count that was stored is
in the file.

Layout, in little-endian 64-bit words. The first page is the header; then come slots of 16 words:

    header   0 magic   1 version   2–3 worker UUID   4 sealing_seq   5 sealed_seq
             6 slot_count   7 open_hour   8 sealing_hour
    slot     0 key_id   1–4 channel (32 bytes)   5–7 totals   8–10 sealing   11–13 sealed
             (the last three: messages, bytes, requests)

`totals` only grow. A seal copies them to `sealing`, and the batch is `sealing − sealed`; when it is
safe on disk, `sealed` becomes `sealing`. `sealing_seq` and `sealed_seq` say how far that went.
Hours are seconds since 1970.
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

from billing.metering.batch import CHANNEL_BYTES, VERSION, Batch, BatchId, UsageLine

MAGIC = int.from_bytes(b"HLRMETER", "little")
FILE_VERSION = 1
HEADER_WORDS = mmap.PAGESIZE // 8
SLOT_WORDS = 16
METRICS = 3
SUFFIX = ".meter"

_SEALING_SEQ, _SEALED_SEQ, _SLOT_COUNT, _OPEN_HOUR, _SEALING_HOUR = 4, 5, 6, 7, 8
_CHANNEL, TOTALS, _SEALING, _SEALED = 1, 5, 8, 11

#: 1,024 slots of 128 bytes: 128 KiB, enough for about 200 keys, and grown by as much again.
GROW_SLOTS = 1_024


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
        if self.words[0] != MAGIC or self.words[1] != FILE_VERSION:
            raise NotAMeterFile(f"{path.name}: not a meter file of version {FILE_VERSION}")
        self.worker = uuid.UUID(bytes=self.words[2:4].tobytes()).hex
        fits = (len(self.words) - HEADER_WORDS) // SLOT_WORDS
        if self.slot_count > fits:
            raise NotAMeterFile(f"{path.name}: {self.slot_count} slots, but room for {fits}")

    @classmethod
    def create(cls, folder: Path, *, now: datetime) -> MeterFile:
        """A new file for a new worker. Raises OSError when the disk has no room for it."""
        worker = uuid.uuid4()
        # Made and locked under another name: whoever looks for dead workers' files must never find
        # one of a living process without its lock.
        building = folder / f"{worker.hex}.new"
        fd = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(fd, 0, (HEADER_WORDS + GROW_SLOTS * SLOT_WORDS) * 8)
            header = [FILE_VERSION, *memoryview(worker.bytes).cast("Q"), 0, 0, 0, hour_of(now), 0]
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
        return self.words[_SLOT_COUNT]

    @property
    def is_sealing(self) -> bool:
        """Whether a batch has been begun and not yet finished."""
        return self.words[_SEALING_SEQ] != self.words[_SEALED_SEQ]

    def new_slot(self, key_id: int, channel: bytes) -> int:
        """Allocate a slot and answer its offset in words. Raises OSError when the file cannot
        grow."""
        count = self.slot_count
        offset = HEADER_WORDS + count * SLOT_WORDS
        if offset + SLOT_WORDS > len(self.words):
            self._grow()
        self.words[offset] = key_id
        name = memoryview(channel.ljust(CHANNEL_BYTES, b"\0")).cast("Q")
        self.words[offset + _CHANNEL : offset + _CHANNEL + CHANNEL_BYTES // 8] = name
        # Last, so that a kill in between leaves a slot nobody counts as there.
        self.words[_SLOT_COUNT] = count + 1
        return offset

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
            words[_OPEN_HOUR] = hour_of(now)
            return None
        for metric in range(METRICS):
            # Strided slices: one C loop for each metric, about 1 ms for 100,000 slots.
            words[self._column(_SEALING + metric)] = words[self._column(TOTALS + metric)]
        words[_SEALING_HOUR] = words[_OPEN_HOUR]
        words[_OPEN_HOUR] = hour_of(now)
        # From here the batch exists: whoever finds the file dead writes it under this number.
        words[_SEALING_SEQ] = words[_SEALED_SEQ] + 1
        return self.sealing()

    def sealing(self) -> Seal | None:
        """The batch that is being sealed, if there is one."""
        if not self.is_sealing:
            return None
        hour = datetime.fromtimestamp(self.words[_SEALING_HOUR], tz=UTC)
        return Seal(self.words[_SEALING_SEQ], hour)

    def sealing_batch(self) -> Batch:
        """Step 1 writes this; any thread may build it. Raises RuntimeError when nothing is being
        sealed."""
        seal = self.sealing()
        if seal is None:
            raise RuntimeError("nothing is being sealed")
        return Batch(
            v=VERSION, worker=self.worker, seq=seal.seq, hour=seal.hour, lines=list(self._lines())
        )

    def finish_seal(self) -> None:
        """Step 2, once the batch is safe on disk: what it holds will not be sealed again. Any
        thread may call it."""
        words = self.words
        for metric in range(METRICS):
            words[self._column(_SEALED + metric)] = words[self._column(_SEALING + metric)]
        words[_SEALED_SEQ] = words[_SEALING_SEQ]

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

    def _lines(self) -> Iterator[UsageLine]:
        words = self.words
        # The counting thread may grow the file meanwhile; what this mapping does not show is not in
        # this seal.
        end = min(len(words), HEADER_WORDS + words[_SLOT_COUNT] * SLOT_WORDS)
        for offset in range(HEADER_WORDS, end, SLOT_WORDS):
            # Never below zero, also where a power cut kept some pages and lost others: rather bill
            # too little.
            messages, size_bytes, requests = (
                max(0, words[offset + _SEALING + metric] - words[offset + _SEALED + metric])
                for metric in range(METRICS)
            )
            if messages or size_bytes or requests:
                name = words[offset + _CHANNEL : offset + _CHANNEL + CHANNEL_BYTES // 8].tobytes()
                yield UsageLine(words[offset], _channel(name), messages, size_bytes, requests)

    def _has_unsealed(self) -> bool:
        words = self.words
        return any(
            words[self._column(TOTALS + metric)].tolist()
            != words[self._column(_SEALED + metric)].tolist()
            for metric in range(METRICS)
        )

    def _column(self, field: int) -> slice:
        end = HEADER_WORDS + self.slot_count * SLOT_WORDS
        return slice(HEADER_WORDS + field, end, SLOT_WORDS)

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


def _channel(name: bytes) -> str:
    text = name.rstrip(b"\0").decode("ascii", "replace")
    # Only a power cut can leave anything else; the counts are worth more than the name.
    return (
        text if text.isascii() and text.isprintable() and text and " " not in text else "unreadable"
    )


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
