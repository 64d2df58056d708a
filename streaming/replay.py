"""Recorded data → exactly the frames a customer would get, as fast as the disk gives it.

Frames come as if the customer had subscribed at the checkpoint's height: no acks, first what a new
subscriber gets, then every frame in order. `_by_block` and `_streaming` files of the same blocks
give the same frames.
"""

from __future__ import annotations

import gzip
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import orjson

from streaming.core.blocks import RawBlock
from streaming.core.dialects.official import error as error_frame
from streaming.core.envelope import ORIGIN, Envelope, Position, Role
from streaming.core.market import CheckpointTooOld, Market
from streaming.core.public import PublicFeed
from streaming.core.topic import Kind, Topic

__all__ = ["CheckpointTooOld", "Subscription", "replay_node", "replay_ws"]


class Subscription(NamedTuple):
    """What is followed; `echo` is the subscription as the exchange would print it."""

    topic: Topic
    echo: str


@dataclass(slots=True)
class _Follower:
    """One subscription on its way through the envelopes."""

    subscription: Subscription
    position: Position = ORIGIN
    epoch: str = ""
    is_refused: bool = False

    def take(self, envelope: Envelope) -> bytes | None:
        """The frame `envelope` means for this subscriber, if any."""
        if envelope.role is Role.NOT_READY:
            if self.is_refused:
                return None
            self.is_refused = True
            return error_frame(f"{envelope.payload.decode()}: {self.subscription.echo}")
        is_new = envelope.epoch != self.epoch or envelope.position > self.position
        is_first = not self.epoch
        if not is_new:
            return None
        self.position, self.epoch, self.is_refused = envelope.position, envelope.epoch, False
        is_empty_start = (
            is_first
            and self.subscription.topic.kind is Kind.TRADES
            and envelope.role is Role.SNAPSHOT
            and envelope.position == ORIGIN
        )
        return None if is_empty_start else envelope.payload


def replay_node(
    blocks: Iterable[RawBlock],
    *,
    subscriptions: Sequence[Subscription],
    checkpoint: tuple[int, Any] | None,
    faults: Counter[str],
    every_block: bool = False,
) -> Iterator[bytes]:
    """The frames of a node's recorded blocks, given by rising height.

    `checkpoint` is a height and its books (`Market.load_checkpoint`); without one books are not
    ready and say so once. `every_block`: the files hold a line for every block. `faults` is filled
    while frames are taken.

    Raises:
        CheckpointTooOld: blocks between the checkpoint and the first one are missing.
    """
    market = Market(epoch="replay", every_block=every_block)
    followers = _followers(subscriptions)
    for name in followers:
        market.want(followers[name][0].subscription.topic)
    stream = iter(blocks)
    if checkpoint is not None:
        stream = _start_books(market, stream, checkpoint, every_block=every_block)
    try:
        starts = [market.snapshot(f[0].subscription.topic) for f in followers.values()]
        yield from _frames(starts, followers)
        for block in stream:
            yield from _frames(market.apply(block), followers)
        yield from _frames(market.finish(), followers)
    finally:
        faults.update(market.faults)


def _start_books(
    market: Market, blocks: Iterator[RawBlock], checkpoint: tuple[int, Any], *, every_block: bool
) -> Iterator[RawBlock]:
    """Load the checkpoint, take the fills up to it as history, and return the blocks after it."""
    height, books = checkpoint
    market.load_checkpoint(height, books)
    for block in blocks:
        if block.height > height:
            if every_block and block.height > height + 1:
                raise CheckpointTooOld(
                    f"the checkpoint is of block {height}, the files begin at block {block.height}"
                )
            return itertools.chain([block], blocks)
        market.prime([block])
    return iter(())


def replay_ws(
    paths: Sequence[Path], *, subscriptions: Sequence[Subscription], faults: Counter[str]
) -> Iterator[bytes]:
    """The frames of recorded WebSocket lines `{"ts", "payload"}`, merged by `ts`; a name ending in
    `.gz` is packed.

    A frame passes byte for byte as it stands in the line; only trades that were recorded twice are
    cut out. `faults` is filled while frames are taken. Raises OSError for a file that cannot be
    read.
    """
    feed = PublicFeed("replay")
    followers = _followers(subscriptions)
    for own in followers.values():
        feed.subscribed(own[0].subscription.topic)
    try:
        with ExitStack() as stack:
            lines = [_ws_lines(stack.enter_context(_open(path)), faults) for path in paths]
            for ts_ns, payload in heapq.merge(*lines, key=lambda line: line[0]):
                yield from _frames(feed.take(payload, read_ns=ts_ns), followers)
    finally:
        del feed.faults["not_subscribed"]  # recorded, and not asked for here: no fault
        faults.update(feed.faults)


def _followers(subscriptions: Sequence[Subscription]) -> dict[str, list[_Follower]]:
    followers: dict[str, list[_Follower]] = {}
    for subscription in subscriptions:
        followers.setdefault(subscription.topic.name, []).append(_Follower(subscription))
    return followers


def _frames(
    envelopes: Iterable[Envelope], followers: dict[str, list[_Follower]]
) -> Iterator[bytes]:
    for envelope in envelopes:
        for follower in followers.get(envelope.topic, ()):
            frame = follower.take(envelope)
            if frame is not None:
                yield frame


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", (gzip.open if path.suffix == ".gz" else open)(path, "rb"))


_PAYLOAD = b'"payload":'


def _ws_lines(stream: IO[bytes], faults: Counter[str]) -> Iterator[tuple[int, bytes]]:
    """(`ts` in ns, payload as it stands in the line); what is not such a line is counted."""
    newest_ns = 0
    for line in stream:
        text = line.strip()
        if not text:
            continue
        try:
            body = orjson.loads(text)
            ts_ns = _ts_ns(body["ts"])
            payload = _payload(text, body["payload"])
        except (KeyError, TypeError, ValueError, OverflowError):
            faults["bad_ws_line"] += 1
            continue
        newest_ns = max(
            newest_ns, ts_ns
        )  # a merge needs rising times; a recorder's clock may step back
        yield newest_ns, payload


def _payload(text: bytes, payload: Any) -> bytes:
    if isinstance(payload, str):  # the frame as text
        return payload.encode()
    raw = text[text.index(_PAYLOAD) + len(_PAYLOAD) :].strip()
    # Usually the last member, so the frame's own bytes are what stands before the last brace.
    candidate = raw[: raw.rindex(b"}")].rstrip()
    try:
        return candidate if orjson.loads(candidate) == payload else orjson.dumps(payload)
    except ValueError:
        return orjson.dumps(payload)


def _ts_ns(value: Any) -> int:
    """Nanoseconds of a recorder's time: ISO text, or seconds, or milliseconds since 1970."""
    if isinstance(value, str):
        return int(datetime.fromisoformat(value).timestamp() * 1e9)
    return int(value * 1_000_000 if value > 1e11 else value * 1_000_000_000)
