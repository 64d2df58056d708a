"""What travels between an upstream worker and the edges.

An envelope names its place in its topic and the place of the one before, so continuity can be seen
without a counter: two workers reading the same node data publish the same envelopes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

#: Version of the wire form. Edges accept this one and the one before, so that a rolling deploy
#: needs no pause.
VERSION = 2
ACCEPTED_VERSIONS = frozenset({VERSION, VERSION - 1})


class Position(NamedTuple):
    """A place in the chain: block height, and the event's index within (file kind, height).

    Public sources have no height; there `height` counts frames since the epoch began and `index` is
    0.
    """

    height: int
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody calls here


#: "Before everything": the previous position of a topic's first envelope.
ORIGIN = Position(0, 0)
#: Above every index within a block.
LAST_INDEX = 2**31 - 1


def end_of(height: int) -> Position:
    """The place after everything in block `height`."""
    return Position(height, LAST_INDEX)


class Role(IntEnum):
    """What an envelope is for."""

    UPDATE = 0  # the next frame of the topic, for everyone who follows it
    SNAPSHOT = 1  # the state at `position`, for those who have no frame yet
    NOT_READY = (
        2  # the topic exists but has nothing to serve; the payload is one line of text saying why
    )
    #: Something in (`previous`, `position`] is lost to this worker; the payload is one line of text
    #: saying why.
    GAP = 3
    #: What this worker said of the topic is known to be wrong since; the payload is one line of
    #: text saying why. Of a topic of diffs: all up to `position` was built on a wrong state, and a
    #: snapshot follows. Of one of events: what it said in (`previous`, `position`] was not all,
    #: whoever else told the same. The worker's next frame follows this place, so who missed it sees
    #: a hole, or finds it in the log. An edge that does not know the role loses the message it
    #: comes in, and reads the rest of that from the log.
    RESET = 4


class Times(msgspec.Struct, array_like=True, frozen=True):
    """Nanoseconds since 1970, UTC; 0 when unknown: the block's own time, the node's write, our
    read, our publish."""

    block_ns: int = 0
    node_ns: int = 0
    in_ns: int = 0
    out_ns: int = 0


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One frame of one topic, encoded once, with its place in the stream.

    `previous` is a claim: nothing of this topic lies strictly between it and `position`. Usually it
    is the place of the frame before; a worker that has only just begun, or lost something, claims
    no more than it knows (`end_of` the last block it did not see).

    Epochs of node data begin with `n-` and are the same for all workers of a relay: there, places
    are block heights, which no epoch changes. Any other epoch has places of its own.

    `topic` is `Topic.name`. `payload` is the whole official WebSocket text
    (`{"channel":…,"data":…}`) as UTF-8 bytes: edges hand it on untouched.
    """

    topic: str
    epoch: str
    position: Position
    previous: Position
    role: Role
    payload: bytes
    times: Times = Times()

    def contradicts(self, told: Position) -> bool:
        """Whether this claims that nothing is where, in the same block, `told` is: it comes from a
        node that counts the block's events otherwise, and tells the same ones at other places."""
        return self.previous < told < self.position and told.height == self.position.height


class BusMessage(msgspec.Struct, array_like=True, frozen=True):
    """Everything one edge gets of one block (or of one wake-up of the worker), in order."""

    version: int
    worker: str
    envelopes: list[Envelope]
    tip_height: int = 0  # the highest block this worker has taken in; 0: it reads no node
    tip_ns: int = 0  # that block's own time, ns since 1970 UTC
    #: The same height for each kind of file (`streaming.core.tips`): what a topic is made of may be
    #: behind. Empty from a worker one release older; such an edge leaves it unread.
    heights: tuple[int, ...] = ()


class UnknownVersion(ValueError):
    """The publisher speaks a version this edge does not know."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(BusMessage)


def encode(message: BusMessage) -> bytes:
    """The wire form of `message`."""
    return _encoder.encode(message)


def decode(data: bytes) -> BusMessage:
    """The message in `data`. Raises UnknownVersion, or msgspec.DecodeError for anything that is not
    ours."""
    message = _decoder.decode(data)
    if message.version not in ACCEPTED_VERSIONS:
        raise UnknownVersion(
            f"bus message version {message.version}; accepted are {sorted(ACCEPTED_VERSIONS)}"
        )
    return message
