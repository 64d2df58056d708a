"""Meter: counts what is delivered, for under a quarter of a microsecond.

Used on one thread, the one that delivers. `begin_seal` too; `batch` and `finish_seal` may run on
the shipper's thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import structlog

from billing import metrics
from billing.metering.batch import CHANNEL_BYTES, Batch
from billing.metering.slots import HEADER_WORDS, METRICS, SLOT_WORDS, TOTALS, MeterFile, Seal
from tenants.admission.caps import Usage

log = structlog.get_logger(__name__)

#: 64 MiB of slots. What comes after counts as key 0: seen and never lost, but on nobody's bill.
MAX_SLOTS = 500_000
#: Compared with what they were in one turn of the loop: 7 µs where nothing has changed, 1 ms where
#: all have.
SLOTS_AT_A_TIME = 256
#: The key id that usage falls to when it has no slot of its own.
OVERFLOW_KEY_ID = 0


class Meter:
    """Counters of messages, payload bytes and requests for each key and channel, in a file of this
    process."""

    def __init__(self, file: MeterFile, *, max_slots: int = MAX_SLOTS) -> None:
        self.file = file
        self._max_slots = max_slots
        self._slots: dict[tuple[int, str], int] = {}
        self._words = file.words
        self._names: list[tuple[int, str]] = []  # of the slots, in their order
        self._read: list[list[int]] = [[] for _ in range(METRICS)]
        self._overflow = self._allocate(OVERFLOW_KEY_ID, "overflow")

    @classmethod
    def create(cls, folder: Path, *, now: datetime, max_slots: int = MAX_SLOTS) -> Meter:
        """A meter with a new file in `folder` (made if missing). Raises OSError when it cannot be
        created."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(MeterFile.create(folder, now=now), max_slots=max_slots)

    @property
    def worker(self) -> str:
        """This process's name in batch ids: a UUID in hex, never used again."""
        return self.file.worker

    def slot(self, key_id: int, channel: str) -> int:
        """Where `key_id`'s deliveries on `channel` (1–32 visible ASCII characters) are counted;
        keep the answer.

        Allocates at the first call. When there is no room (disk full, too many keys) the slot is
        that of key 0.
        """
        found = self._slots.get((key_id, channel))
        if found is not None:
            return found
        _check(key_id, channel)
        try:
            if self.file.slot_count >= self._max_slots:
                raise OSError(f"{self._max_slots} slots are in use")
            return self._allocate(key_id, channel)
        except OSError as error:
            # Not remembered: the next session asks again, perhaps with room.
            metrics.overflowed.inc()
            log.error("usage_slot_overflow", key_id=key_id, channel=channel, error=str(error))
            return self._overflow

    def add(self, slot: int, messages: int, payload_bytes: int) -> None:
        """Count `messages` handed to a writable transport, of `payload_bytes` together."""
        words = self._words
        words[slot] += messages
        words[slot + 1] += payload_bytes

    def add_requests(self, slot: int, n: int) -> None:
        """Count `n` requests served."""
        self._words[slot + 2] += n

    def begin_seal(self, now: datetime) -> Seal | None:
        """Freeze what was counted into a batch with a number; None when nothing was. On the
        counting thread."""
        return self.file.begin_seal(now)

    def batch(self) -> Batch:
        """The batch that is being sealed. Raises RuntimeError when there is none."""
        return self.file.sealing_batch()

    def finish_seal(self) -> None:
        """The batch is safe on disk."""
        self.file.finish_seal()

    def totals(self, slot: int) -> tuple[int, int, int]:
        """Messages, payload bytes and requests ever counted in a slot."""
        messages, payload_bytes, requests = self._words[slot : slot + 3]
        return messages, payload_bytes, requests

    def used_since(self) -> Iterator[list[Usage]]:
        """What was counted in each slot since this was asked before, in pieces between which others
        may run. On the counting thread.

        Reads the counters where they are: nothing is added to a count.
        """
        for start in range(0, len(self._names), SLOTS_AT_A_TIME):
            names = self._names[start : start + SLOTS_AT_A_TIME]
            columns = [self._changes(metric, start, len(names)) for metric in range(METRICS)]
            changed = sorted(set().union(*columns))
            yield [
                Usage(*names[number], *(column.get(number, 0) for column in columns))
                for number in changed
            ]

    def _changes(self, metric: int, start: int, count: int) -> dict[int, int]:
        """By how much the slots that have changed did; by their numbers from `start`."""
        first = HEADER_WORDS + start * SLOT_WORDS + TOTALS + metric
        now = self._words[first : first + (count - 1) * SLOT_WORDS + 1 : SLOT_WORDS].tolist()
        read = self._read[metric]
        before = read[start : start + count]
        before += [0] * (count - len(before))
        if now == before:
            return {}
        read[start : start + count] = now
        pairs = enumerate(zip(now, before, strict=True))
        return {number: value - was for number, (value, was) in pairs if value != was}

    def _allocate(self, key_id: int, channel: str) -> int:
        offset = self.file.new_slot(key_id, channel.encode("ascii"))
        self._words = self.file.words  # the file may have grown, and with it moved
        self._slots[key_id, channel] = offset + TOTALS
        self._names.append((key_id, channel))
        metrics.slots.set(self.file.slot_count)
        return offset + TOTALS


def _check(key_id: int, channel: str) -> None:
    if not 0 <= key_id < 2**63:
        raise ValueError(f"key_id {key_id} is outside 0…2**63")
    if not (
        1 <= len(channel) <= CHANNEL_BYTES
        and channel.isascii()
        and channel.isprintable()
        and " " not in channel
    ):
        raise ValueError(f"channel {channel!r} is not 1–{CHANNEL_BYTES} visible ASCII characters")
