"""The fan-out in C does what the hub does in Python: the same bytes to everybody, the same counts.

Two edges live through the same, over sockets of the kernel that hold little: one with it, one
without. What each customer has read in the end, what was metered, and what is told of their socket
must agree, whatever they read and when, and whoever of them goes.
"""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from billing.metering import slots
from billing.metering.meter import Meter
from streaming import native
from streaming.core.batch import Tally
from streaming.core.counted import Counted
from streaming.core.envelope import Role
from streaming.core.outbox import Frame
from streaming.core.relay_session import RelaySession
from streaming.core.session import Session
from streaming.core.topic import Kind, Topic
from streaming.fanout import NativeFanout, native_fanout
from streaming.key_account import KeyAccount
from streaming.native import build
from streaming.ws.writer import Writer
from tests.core.relay_world import CATALOGUE, EPOCH, Lease, World
from tests.streaming.test_writer_numbers import BOOK, BOOKS, DIFF, TRADES, envelope

HELD_BYTES = 4_608  # the least that the kernel holds for a socket
OF_ETH = Topic(Kind.TRADES, "ETH")
WAITING_BYTES = 2_000
TOPICS = [TRADES, OF_ETH, DIFF, *BOOK]
EPOCHS = (EPOCH, "n-ffffffffffff", "n-eeeeeeeeeeee")  # Redis was emptied twice
#: What the customers ask for, by turns: of either dialect, of one topic and of many.
ASKED: tuple[tuple[type[Session] | type[RelaySession], list[dict[str, Any]]], ...] = (
    (Session, [{"type": "l2Book", "coin": "BTC"}]),
    (Session, [{"type": "trades", "coin": "BTC"}, *({"type": "l2Book", "coin": c} for c in BOOKS)]),
    (RelaySession, [{"type": "l2Book", "coin": coin} for coin in BOOKS]),
    (RelaySession, [{"type": "trades", "coin": "BTC"}, {"type": "l2Diff", "coin": "BTC"}]),
    (RelaySession, [{"type": "l2Book", "coins": BOOKS}, {"type": "l2Diff", "coin": "BTC"}]),
    (RelaySession, [{"type": "trades", "coins": ["BTC", "ETH"]}]),
)  # fmt: skip
CUSTOMERS = 8


@pytest.fixture(scope="module")
def fanout() -> NativeFanout:
    build.build()
    made = native_fanout()
    assert made is not None
    return made


class Customer:
    """A socket's two ends. Implements `Wire` for the near one."""

    def __init__(self, number: int, edge: Edge) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD_BYTES)
        self.held = b""
        self.read = bytearray()
        self.cuts: list[str] = []
        self.writer = Writer(
            self,
            account=KeyAccount(edge.meter, number + 1),
            on_overflow=lambda: self.cuts.append("slow"),
            fd=self.near.fileno() if edge.is_native else -1,
        )
        self.writer._outbox.max_bytes = WAITING_BYTES
        kind, self.asked = ASKED[number % len(ASKED)]
        self.session = kind(
            hub=edge.world.hub, sink=self.writer, lease=Lease(), catalogue=lambda: CATALOGUE
        )
        for body in self.asked:
            # Of those who skip what is too much, the rest are cut.
            on_slow = {"onSlow": "skip"} if kind is RelaySession and "coins" in body else {}
            request = {"method": "subscribe", "subscription": body, **on_slow}
            self.session.receive(orjson.dumps(request).decode(), now_s=0.0)

    def send(self, data: bytes | memoryview) -> int:
        try:
            return self.near.send(data)
        except BlockingIOError:
            return 0

    def buffer(self, data: bytes) -> None:
        self.held += data
        self.writer.blocked(now_s=1.0)

    def reads(self, size: int) -> None:
        """So many bytes; then whoever has its bytes in hand goes on, as the transport would."""
        while size > 0:
            try:
                data = self.far.recv(min(size, 65_536))
            except (BlockingIOError, OSError):
                break
            size -= len(data)
            self.read += data
            self.goes_on()
            if not data:
                break

    def goes_on(self) -> None:
        try:
            while self.held:
                self.held = self.held[self.near.send(self.held) :]
        except BlockingIOError:
            return
        except OSError:
            self.held = b""
            return
        if self.writer.is_blocked:
            self.writer.resume(now_s=2.0)

    def leaves(self) -> None:
        self.writer.fd = -1
        self.session.close(now_s=3.0)
        self.near.close()
        self.far.close()

    @property
    def account(self) -> tuple[Any, ...]:
        writer = self.writer
        told = (writer.sent, writer.conflated, writer.shed, writer.is_blocked, writer.is_closing)
        cursor = getattr(self.session, "last_cursor", "")
        return *told, writer.held_frames, cursor, tuple(self.cuts), bytes(self.read)


class Edge:
    def __init__(self, folder: Path, fanout: NativeFanout | None) -> None:
        self.is_native = fanout is not None
        self.world = World()
        self.world.hub.fanout = fanout
        self.meter = Meter.create(folder, now=datetime(2026, 11, 1, tzinfo=UTC))
        self.customers = [Customer(number, self) for number in range(CUSTOMERS)]
        self.height = dict.fromkeys(TOPICS, 1)
        self.epoch = EPOCH
        for topic in TOPICS:
            self.world.hub.publish(envelope(topic, 1, role=Role.SNAPSHOT), "A")
        self.world.hub.flush()

    def block(self, topics: set[Topic]) -> None:
        for topic in sorted(topics):
            self.height[topic] += 1
            news = envelope(topic, self.height[topic])
            self.world.hub.publish(structs.replace(news, epoch=self.epoch), "A")

    def live(self, step: Any) -> None:
        match step:
            case ("block", topics):
                self.block(topics)
                self.world.hub.flush()
            case ("two blocks", one, other):  # in one read of the bus
                self.block(one)
                self.block(other)
                self.world.hub.flush()
            case ("epoch", number):
                if number > EPOCHS.index(self.epoch):
                    self.epoch = EPOCHS[number]
            case ("reads", number, size):
                self.customers[number].reads(size)
            case ("asks", number):
                self.customers[number].session.receive('{"method":"ping"}', now_s=0.0)
            case ("hangs up", number):
                self.customers[number].far.close()
            case ("leaves", number):
                self.customers[number].leaves()
            case ("unsubscribes", number):
                customer = self.customers[number]
                request = {"method": "unsubscribe", "subscription": customer.asked[0]}
                customer.session.receive(orjson.dumps(request).decode(), now_s=0.0)

    def end(self) -> None:
        self.world.hub.flush()
        for customer in self.customers:
            for _ in range(100):
                customer.reads(10**9)
                customer.goes_on()

    @property
    def outcome(self) -> tuple[Any, ...]:
        counters = self.world.hub.counters
        used = {place: self.meter.totals(slot) for place, slot in self.meter._slots.items()}
        accounts = [customer.account for customer in self.customers]
        return accounts, used, counters.deliveries, counters.sink_failures


@contextmanager
def edges(fanout: NativeFanout) -> Iterator[tuple[Edge, Edge]]:
    with tempfile.TemporaryDirectory() as folder:
        both = Edge(Path(folder, "c"), fanout), Edge(Path(folder, "python"), None)
        yield both
        for edge in both:
            for customer in edge.customers:
                customer.leaves()
            edge.meter.file.close()


one = st.integers(0, CUSTOMERS - 1)
some = st.sets(st.sampled_from(TOPICS), min_size=1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("block"), some),
        st.tuples(st.just("two blocks"), some, some),
        st.tuples(st.just("epoch"), st.integers(1, 2)),
        st.tuples(st.just("reads"), one, st.integers(1, 6_000)),
        st.tuples(st.sampled_from(["asks", "hangs up", "leaves", "unsubscribes"]), one),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(steps)
def test_all_is_as_in_python(fanout: NativeFanout, steps: list[Any]) -> None:
    with edges(fanout) as both:
        for edge in both:
            for step in steps:
                edge.live(step)
            edge.end()
        assert both[0].outcome == both[1].outcome


def test_a_socket_that_holds_nothing_is_gone_on_with(fanout: NativeFanout) -> None:
    """All of it by cuts: what waits, and is numbered and counted when it has left."""
    with edges(fanout) as both:
        for edge in both:
            for _ in range(400):
                edge.block(set(TOPICS))
                edge.world.hub.flush()
            assert any(customer.writer.is_blocked for customer in edge.customers)
            edge.end()
        assert both[0].outcome == both[1].outcome
        assert both[0].outcome[1]  # something was metered


def test_counts_are_right_while_the_meter_s_file_grows_and_is_sealed(
    fanout: NativeFanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "GROW_SLOTS", 2)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    with edges(fanout) as both:
        batches = []
        for edge in both:
            began = edge.meter.words
            sealed = []
            for number in range(20):
                edge.block(set(TOPICS[: 1 + number % len(TOPICS)]))
                edge.world.hub.flush()
                edge.meter.begin_seal(now)
                for customer in edge.customers:
                    customer.reads(10**6)
                edge.meter.slot(number, "other")
                sealed.append(sorted(edge.meter.batch().lines, key=repr))
                edge.meter.finish_seal()
            assert edge.meter.words is not began
            batches.append(sealed)
            edge.end()
        assert both[0].outcome == both[1].outcome
        assert batches[0] == batches[1]


def test_one_customer_s_fault_is_counted_and_stays_theirs(
    fanout: NativeFanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", faults.append)
    with edges(fanout) as (edge, _):
        broken, other = edge.customers[0], edge.customers[5]
        frame = Frame(b"{}", counted="nothing that counts")  # type: ignore[arg-type]
        edge.world.hub.queue(broken.session, frame)
        edge.block({BOOK[0]})
        edge.world.hub.flush()
        assert edge.world.hub.counters.sink_failures == len(faults) == 1
        before = len(other.read)
        other.reads(10**6)
        assert len(other.read) > before
        # And they are not stuck: the next block reaches them.
        edge.block({BOOK[0]})
        edge.world.hub.flush()
        broken.reads(10**6)
        assert b'"time":3' in broken.read


def test_what_many_full_sockets_did_not_take_is_held_for_one_at_a_time(
    fanout: NativeFanout,
) -> None:
    """A snapshot of BTC's `l4Book` is 19 MB, and starts everybody who waits at once."""
    size_bytes = 1_000_000
    with edges(fanout) as (edge, _):
        followers = range(8, 80, len(ASKED))
        assert all(ASKED[number % len(ASKED)] == ASKED[2] for number in followers)
        edge.customers += [Customer(number, edge) for number in followers]
        edge.world.hub.flush()
        news = structs.replace(
            envelope(BOOK[0], 2), payload=b'{"channel":"l2Book","data":"%b"}' % (b"x" * size_bytes)
        )
        edge.world.hub.publish(news, "A")
        tracemalloc.start()
        try:
            edge.world.hub.flush()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sum(customer.writer.is_blocked for customer in edge.customers) >= len(followers)
        assert most < 6 * size_bytes


class Made(Frame):
    """Its text is made when it is asked for, and nobody else keeps it."""

    @property
    def wire(self) -> bytes:  # type: ignore[override]
        return b"".join((b"\x81\x7e\x03\xe8", b"m" * 1_000))

    @wire.setter
    def wire(self, value: bytes) -> None: ...


class Meddling(Made):
    """Whoever asks for its text has others' frames sent, and more told to the same session."""

    edge: Edge
    held: list[bytes]

    @property
    def wire(self) -> bytes:  # type: ignore[override]
        first, second, *_ = self.edge.customers
        self.edge.world.hub.queue(first.session, Frame(b'{"told":"meanwhile"}'))
        self.edge.world.hub.queue(second.session, Frame(b'{"told":"others"}'))
        self.edge.world.hub.flush()
        self.held = [b"%d" % n * 1_004 for n in range(10)]  # where a text lay that nobody kept
        return b"\x81\x02{}"

    @wire.setter
    def wire(self, value: bytes) -> None: ...


class Talkative:
    """An account that tells its customer something when it counts."""

    def __init__(self, edge: Edge, session: Session | RelaySession) -> None:
        self.edge, self.session = edge, session

    def delivered(self, tally: Tally) -> None:
        self.edge.world.hub.queue(self.session, Frame(b'{"told":"of %d"}' % len(tally)))


def test_what_is_told_meanwhile_is_neither_lost_nor_in_the_way(fanout: NativeFanout) -> None:
    with edges(fanout) as both:
        for edge in both:
            customer, hub = edge.customers[0], edge.world.hub
            for frame in (Made(b""), meddling := Meddling(b"")):
                hub.queue(customer.session, frame)
            meddling.edge = edge
            hub.flush()
            customer.writer._account = Talkative(edge, customer.session)
            edge.block({BOOK[0]})
            hub.flush()
            edge.end()
            read = bytes(customer.read)
            assert b"m" * 1_000 + b"\x81\x02{}" in read
            assert b"meanwhile" in read
            assert b"of 1" in read
            assert hub.counters.sink_failures == 0
        assert both[0].outcome == both[1].outcome


def test_what_it_touches_is_freed(fanout: NativeFanout) -> None:
    def live_through() -> None:
        with edges(fanout) as (edge, _):
            for _ in range(30):
                edge.block(set(TOPICS))
                edge.world.hub.flush()
                for customer in edge.customers:
                    customer.reads(2_000)

    live_through()
    tracemalloc.start()
    try:
        live_through()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            live_through()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000  # of 1,000 frames of 0.1 KB and more


def test_classes_of_another_shape_are_refused(fanout: NativeFanout) -> None:
    built: Any = native.load()
    shaped = type("Counted", (), {"messages": 1})
    with pytest.raises(TypeError, match=r"Counted\.messages is no slot"):
        built.bind({cls.__name__: cls for cls in (*_others(), shaped)}, None)
    with pytest.raises(TypeError, match="no class Counted was given"):
        built.bind({cls.__name__: cls for cls in _others()}, None)
    NativeFanout(built)  # as it was


def _others() -> list[type]:
    from streaming import fanout as module

    return [cls for cls in module._CLASSES if cls is not Counted]


def test_where_there_is_no_compiler_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "load", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.main() == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "no C compiler" in said
    assert build.PACKAGES in said


def test_two_builds_at_once_are_in_nobody_s_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each command of `make` builds, and two may run."""
    library = tmp_path / native.LIBRARY.name
    monkeypatch.setattr(build, "LIBRARY", library)
    monkeypatch.setattr(build, "load", lambda: native if library.exists() else None)
    compiled, others = subprocess.run, []

    def run(command: list[str], **options: Any) -> Any:
        result = compiled(command, **options)
        if not others:  # another begins and ends before this one has moved what it made
            others.append(library)
            assert build.build() == library
        return result

    monkeypatch.setattr(build.subprocess, "run", run)
    assert build.build() == library
    assert native.digest().encode() in library.read_bytes()
    assert list(tmp_path.iterdir()) == [library]


def test_where_nothing_may_be_written_one_line_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "load", lambda: None)
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "nowhere" / "library.so")
    assert build.main() == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert str(tmp_path / "nowhere") in said


def test_one_built_of_another_source_is_not_loaded(
    fanout: NativeFanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.load() is not None
    monkeypatch.setattr(native, "digest", lambda: "another")
    assert native.load() is None
