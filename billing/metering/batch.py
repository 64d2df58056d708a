"""A usage batch: what one process counted between two seals, under an id that is never used
again."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec

VERSION = 1
#: The largest count a database row holds (signed 64 bits).
MAX_UNITS = 2**63 - 1
CHANNEL_BYTES = 32

Units = Annotated[int, msgspec.Meta(ge=0, le=MAX_UNITS)]
KeyId = Annotated[int, msgspec.Meta(ge=0, le=MAX_UNITS)]
Channel = Annotated[str, msgspec.Meta(max_length=CHANNEL_BYTES, pattern=r"^[!-~]{1,32}\Z")]


class MalformedBatch(ValueError):
    """Not a batch of a version we know. The text says why, in one line."""


class BatchId(NamedTuple):
    """Which batch: the worker that sealed it (a UUID in hex, new at every process start) and its
    number there."""

    worker: str
    seq: int

    def __str__(self) -> str:
        return f"{self.worker}-{self.seq:010d}"


_NAME = re.compile(r"([0-9a-f]{32})-([0-9]{10})\Z")


def parse_batch_id(text: str) -> BatchId:
    """The id that `str(BatchId)` wrote. Raises ValueError."""
    if (match := _NAME.match(text)) is None:
        raise ValueError(f"not a batch id: {text!r}")
    return BatchId(match[1], int(match[2]))


class UsageLine(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What one key got on one channel (a topic class such as `l2Book`, or a door such as
    `info`)."""

    key_id: KeyId
    channel: Channel
    messages: Units
    payload_bytes: Units
    requests: Units


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All lines one process sealed at once. They belong to the UTC hour that begins at `hour`."""

    v: int
    worker: str
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_UNITS)]
    hour: datetime
    lines: list[UsageLine]

    @property
    def id(self) -> BatchId:
        """The id it counts once under."""
        return BatchId(self.worker, self.seq)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Batch)


def encode(batch: Batch) -> bytes:
    """One line of JSON. The same counters give the same bytes, so a batch written twice is the same
    file."""
    return _encoder.encode(batch)


def decode(data: bytes | str) -> Batch:
    """The batch in `data`, checked in every field. Raises MalformedBatch."""
    try:
        batch = _decoder.decode(data)
        if batch.v != VERSION:
            raise MalformedBatch(f"version {batch.v}; this process reads version {VERSION}")
        if uuid.UUID(batch.worker).hex != batch.worker:
            raise MalformedBatch("worker is not a UUID in hex")
    except MalformedBatch:
        raise
    except (msgspec.MsgspecError, ValueError, UnicodeError) as error:
        raise MalformedBatch(str(error)) from error
    offset = batch.hour.utcoffset()
    if offset is None or offset.total_seconds() != 0:
        raise MalformedBatch(f"hour {batch.hour} is not in UTC")
    if (batch.hour.minute, batch.hour.second, batch.hour.microsecond) != (0, 0, 0):
        raise MalformedBatch(f"hour {batch.hour} is not a full hour")
    return batch
