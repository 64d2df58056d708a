"""A usage batch: what one process counted between two seals, under an id that is never used
again."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec

#: What is written. Version 1 told no coins, reasons, minutes or region, and is still read.
VERSION = 2
READ_VERSIONS = frozenset({1, VERSION})
#: The largest count a database row holds (signed 64 bits).
MAX_UNITS = 2**63 - 1
CHANNEL_BYTES = 32
COIN_BYTES = 16
REASON_BYTES = 16
REGION_BYTES = 32
MINUTES_AN_HOUR = 60

Units = Annotated[int, msgspec.Meta(ge=0, le=MAX_UNITS)]
KeyId = Annotated[int, msgspec.Meta(ge=0, le=MAX_UNITS)]
Channel = Annotated[str, msgspec.Meta(max_length=CHANNEL_BYTES, pattern=r"^[!-~]{1,32}\Z")]
Word = Annotated[str, msgspec.Meta(max_length=COIN_BYTES, pattern=r"^[!-~]{0,16}\Z")]
Coin = Annotated[str, msgspec.Meta(max_length=COIN_BYTES, pattern=r"^[!-~]{1,16}\Z")]
Region = Annotated[str, msgspec.Meta(max_length=REGION_BYTES, pattern=r"^[!-~]{0,32}\Z")]


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
    """What one key got on one channel (a topic class such as `l2Book`, or a door such as `info`),
    of one coin ("": of no one coin), free of charge for one reason ("": it is not)."""

    key_id: KeyId
    channel: Channel
    messages: Units
    payload_bytes: Units
    requests: Units
    coin: Word = ""
    reason: Word = ""


class MinutesLine(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """In which minutes of an hour (counted from 1970) one key followed one coin: bit n is minute
    n. The hour is its own, because minutes go on while a batch waits to be sealed."""

    key_id: KeyId
    coin: Coin
    hour: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
    minutes: Annotated[int, msgspec.Meta(ge=1, lt=1 << MINUTES_AN_HOUR)]


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that one process sealed at once. `lines` belong to the UTC hour that begins at
    `hour`."""

    v: int
    worker: str
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_UNITS)]
    hour: datetime
    lines: list[UsageLine]
    minutes: list[MinutesLine] = []
    region: Region = ""

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
        if batch.v not in READ_VERSIONS:
            raise MalformedBatch(f"version {batch.v}; this process reads 1 to {VERSION}")
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
