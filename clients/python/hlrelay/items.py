"""What a stream gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hlrelay.v1 import relay_pb2 as pb


@dataclass(frozen=True, slots=True)
class Update:
    """One update of one subscription. `text` is the exchange's own message as bytes, b"" where it
    was asked for typed and is in `envelope`."""

    id: str
    height: int
    seq: int
    cursor: str
    text: bytes
    envelope: pb.Envelope

    def json(self) -> Any:
        """The text, read: `{"channel": …, "data": …}`."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Gap:
    """Updates after block `from_height`, up to and with `to_height`, are lost; None: up to the next
    update, or not known."""

    id: str
    channel: str
    coin: str
    from_height: int | None
    to_height: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """Anything else the relay says: `kind` is the name of the field of `envelope`."""

    id: str
    kind: str
    envelope: pb.Envelope


Item = Update | Gap | Event


class Refused(Exception):
    """The relay will not do what was asked, however often; `code` is stable."""

    def __init__(self, code: str, line: str) -> None:
        super().__init__(f"{code}: {line}")
        self.code = code
