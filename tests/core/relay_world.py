"""An edge in the test's hand: a hub, a replay log in memory, customers of the relay dialect whose
every frame is checked against the published schema."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator, ValidationError

from streaming.core.batch import Batch, NumberedBatch, tally
from streaming.core.catalogue import Catalogue
from streaming.core.corrections import concerns
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.hub import Hub
from streaming.core.outbox import Frame, Outbox
from streaming.core.relay_session import RelaySession
from streaming.core.replays import Question, Replay
from streaming.core.session import Shortage
from streaming.core.topic import Kind, Topic
from streaming.core.versions import one_version

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "relay-dialect.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
CATALOGUE = Catalogue(frozenset({"BTC", "ETH", "SOL", "kPEPE", "@107", "xyz:GOLD", "#7510"}))
EPOCH = "n-0123456789ab"
BTC = Topic(Kind.TRADES, "BTC")
ETH = Topic(Kind.TRADES, "ETH")


def check(text: str | bytes) -> dict[str, Any]:
    """The frame, valid by the schema."""
    frame: dict[str, Any] = orjson.loads(text)
    VALIDATOR.validate(frame)
    return frame


class Lease:
    retention_s: float | None = None

    def __init__(self, limit: int = 100) -> None:
        self.limit, self.used = limit, 0
        self.followed: Counter[Topic] = Counter()

    def subscribe(self, topic: Topic) -> Shortage | None:
        if self.used == self.limit:
            text = f"Cannot subscribe to more than {self.limit} channels."
            return Shortage("limit", text, text, self.limit, self.used)
        self.used += 1
        return None

    def unsubscribe(self, topic: Topic) -> None:
        self.used -= 1

    def follow(self, topic: Topic) -> None:
        self.followed[topic] += 1

    def unfollow(self, topic: Topic) -> None:
        self.followed[topic] -= 1


class Log:
    """A replay log. `lost` entries were never written; `oldest` is where it begins."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[Position, Envelope]] = {}
        self.others: dict[str, list[Envelope]] = {}  # other claims about a place in their block
        self.questions: list[tuple[Question, Callable[[Replay], None]]] = []
        self.oldest: dict[str, Position] = {}
        self.page = 3
        self.failures = 0  # of so many questions to come nothing can be read
        self._reads: list[Replay] = []  # of the first questions, on their way

    def append(self, envelope: Envelope) -> None:
        entries = self.entries.setdefault(envelope.topic, {})
        known = entries.get(envelope.position)
        if known is not None and known.previous != envelope.previous:
            self.others.setdefault(envelope.topic, []).extend((known, envelope))
        if known is None or envelope.previous < known.previous:
            entries[envelope.position] = envelope

    def trim(self, name: str, upto: Position) -> None:
        """Forget everything up to `upto`."""
        entries = self.entries.get(name, {})
        self.entries[name] = {p: e for p, e in entries.items() if p > upto}

    def ask(self, question: Question, answer: Callable[[Replay], None]) -> None:
        self.questions.append((question, answer))

    def answer(self) -> None:
        """Answer everything asked so far."""
        self.read_now()
        asked, self.questions = self.questions, []
        reads, self._reads = self._reads, []
        for (_, answer), replay in zip(asked, reads, strict=True):
            answer(replay)

    def read_now(self) -> None:
        """Read for everything asked so far, and keep the answers: what is appended from now on is
        not in them."""
        self._reads += [self.read(question) for question, _ in self.questions[len(self._reads) :]]

    def forget(self) -> None:
        """Whoever asked is gone."""
        self.questions.clear()
        self._reads.clear()

    def read(self, question: Question) -> Replay:
        if self.failures:
            self.failures -= 1
            return Replay(failure="cannot be read now")
        entries = sorted(self.entries.get(question.name, {}).values(), key=lambda e: e.position)
        after = question.after
        if question.since_ms is not None:
            before = [e for e in entries if e.times.block_ns < question.since_ms * 1_000_000]
            after = before[-1].position if before else ORIGIN
        wanted = [
            e
            for e in entries
            if (concerns(e, after) if e.role is Role.RESET else e.position > after)
            and (question.until is None or e.position <= question.until)
        ]
        is_whole = len(wanted) <= self.page
        page = wanted[: self.page]
        places = {e.position for e in page}
        others = [e for e in self.others.get(question.name, ()) if e.position in places]
        updates = [e for e in page if e.role is Role.UPDATE]
        said = [e for e in page if e.role is not Role.UPDATE]
        told = one_version([*updates, *others], after, is_whole=is_whole)
        return Replay(
            entries=sorted([*told, *said], key=lambda e: e.position),
            oldest=next((e.previous for e in entries if e.role is Role.UPDATE), None),
            is_whole=is_whole,
            after=after,
        )


class Wishes:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dropped: list[str] = []

    def want(self, name: str) -> None:
        self.asked.append(name)

    def drop(self, name: str) -> None:
        self.dropped.append(name)


class Ledger:
    def __init__(self) -> None:
        self.gaps: list[tuple[str, Position, Position]] = []

    def report(
        self, *, topic: str, epoch: str, begin: Position, end: Position, reason: str
    ) -> None:
        self.gaps.append((topic, begin, end))


class Socket:
    """A sink with an outbox: `is_blocked` is a customer who does not read."""

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self.frames: list[dict[str, Any]] = []
        self.taken: list[Frame] = []
        self.outbox = Outbox(max_bytes)
        self.is_blocked = False
        self.is_cut = False
        self.failures: list[Exception] = []  # a hub goes on without a sink that raises
        self._on_ready: list[Callable[[], None]] = []

    @property
    def is_ready(self) -> bool:
        return not self.is_blocked and not len(self.outbox)

    def when_ready(self, callback: Callable[[], None]) -> None:
        if self.is_ready:
            callback()
        else:
            self._on_ready.append(callback)

    def send(self, batch: Batch | NumberedBatch) -> None:
        if not self.is_blocked:
            # As one piece, and, as a socket that takes less needs them, one by one: the same.
            wire, told = batch.wire, batch.tally
            try:
                assert b"".join(frame.wire for frame in batch.frames) == wire
                for frame in batch.frames:
                    size = frame.wire_bytes
                    assert frame.cut(0, size // 2) + frame.cut(size // 2, size + 9) == frame.wire
                assert tally(batch.frames) == told
                assert len(batch.frames) == batch.count
            except AssertionError as failure:
                self.failures.append(failure)
            self._take(batch.frames)
            return
        for frame in batch.frames:
            if self.outbox.offer(frame).name == "SHED" and not frame.skip():
                self.is_cut = True

    def read(self) -> None:
        """Take everything that waits, and go on."""
        self.is_blocked = False
        while len(self.outbox):
            self._take(tuple(self.outbox.drain(1)))
        waiting, self._on_ready = self._on_ready, []
        for callback in waiting:
            callback()

    def _take(self, frames: tuple[Frame, ...]) -> None:
        Batch(frames)
        try:
            for frame in frames:
                assert frame.wire.endswith(frame.payload)
                assert frame.text_bytes == len(frame.payload)
                self.frames.append(check(frame.payload))
                self.taken.append(frame)
        except (AssertionError, ValidationError) as failure:
            self.failures.append(failure)
            raise


class Desk:
    """A customer."""

    def __init__(self, world: World, lease: Lease | None = None, max_bytes: int = 1 << 20) -> None:
        self.world = world
        self.lease = lease or Lease()
        self.socket = Socket(max_bytes)
        self.session = RelaySession(
            hub=world.hub, sink=self.socket, lease=self.lease, catalogue=lambda: CATALOGUE
        )

    def send(self, **frame: Any) -> list[dict[str, Any]]:
        """Send one frame; returns what came at once."""
        return self.send_text(orjson.dumps(frame).decode())

    def send_text(self, text: str) -> list[dict[str, Any]]:
        self.session.receive(text, now_s=self.world.now_s)
        self.world.hub.flush()
        return self.take()

    def subscribe(self, type_: str = "trades", **options: Any) -> list[dict[str, Any]]:
        """Subscribe; `id` and what else is beside the subscription by name, `from_` for from."""
        beside = {
            name: options.pop(name)
            for name in ("id", "onSlow", "maxAgeMs", "flush")
            if name in options
        }
        if "from_" in options:
            beside["from"] = options.pop("from_")
        return self.send(method="subscribe", subscription={"type": type_, **options}, **beside)

    def take(self) -> list[dict[str, Any]]:
        """What came since. Raises what was wrong with any of it."""
        for failure in self.socket.failures:
            raise failure
        frames, self.socket.frames = self.socket.frames, []
        return frames


class World:
    """A hub fed by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.wishes, self.log, self.ledger = Wishes(), Log(), Ledger()
        self.hub = Hub(self.wishes, replays=self.log, ledger=self.ledger)

    def desk(self, **options: Any) -> Desk:
        return Desk(self, **options)

    def publish(self, *envelopes: Envelope, worker: str = "A", is_logged: bool = True) -> None:
        """As the worker does: into the log, then onto the bus."""
        for envelope in envelopes:
            if is_logged and envelope.role in (Role.UPDATE, Role.RESET):
                self.log.append(envelope)
            self.hub.publish(envelope, worker)
        self.hub.flush()

    def hear(self, worker: str, tip_height: int) -> None:
        self.hub.heard(
            worker,
            tip_height=tip_height,
            tip_ns=tip_height * 10**9,
            now_s=self.now_s,
            now_ns=tip_height * 10**9,
        )

    def wait(self, seconds: float = 1.2, *, is_log_up: bool = True) -> None:
        """Let time pass, tick by tick."""
        until = self.now_s + seconds
        while self.now_s < until:
            self.now_s += 0.02
            self.hub.tick(now_s=self.now_s)
            if is_log_up:
                self.log.answer()


def trade(coin: str, tid: int, **fields: Any) -> dict[str, Any]:
    """A whole trade."""
    users = ["0x" + "a" * 40, "0x" + "b" * 40]
    same = {"coin": coin, "side": "A", "px": "1.0", "sz": "1.0", "hash": "0x0", "users": users}
    return {**same, "tid": tid, "time": tid, **fields}


def trades(*tids: int) -> bytes:
    """Trades that differ by their ids."""
    return orjson.dumps({"channel": "trades", "data": [trade("BTC", tid) for tid in tids]})


def update(
    height: int, previous: int, *, index: int = 0, topic: Topic = BTC, epoch: str = EPOCH
) -> Envelope:
    """The block's trade, right after the one at `previous`."""
    return Envelope(
        topic.name,
        epoch,
        Position(height, index),
        Position(previous) if previous else ORIGIN,
        Role.UPDATE,
        trades(height),
        Times(height * 10**9, 2, 3, 4),
    )


def begun(
    height: int, *tids: int, topic: Topic = BTC, epoch: str = EPOCH, payload: bytes | None = None
) -> Envelope:
    """A worker's first answer: the last trades as of `height`."""
    return Envelope(
        topic.name,
        epoch,
        Position(height),
        ORIGIN,
        Role.SNAPSHOT,
        trades(*tids) if payload is None else payload,
    )


def lost(after: int, until: int, *, topic: Topic = BTC) -> Envelope:
    """A worker lost the blocks in (after, until]."""
    return Envelope(topic.name, EPOCH, end_of(until), end_of(after), Role.GAP, b"both nodes silent")


def data(frames: list[dict[str, Any]]) -> list[int]:
    """The trades in the frames, without the snapshots."""
    return [
        trade["tid"]
        for frame in frames
        if frame["channel"] == "trades" and not frame.get("snapshot")
        for trade in frame["data"]
    ]


def events(frames: list[dict[str, Any]]) -> list[str]:
    """The types of the relay's own frames."""
    return [frame["data"]["type"] for frame in frames if frame["channel"] == "relay"]
