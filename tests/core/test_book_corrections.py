"""A book that was wrong and is corrected: whoever built on it begins again, and ends with the right
one."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.book.l4 import L4Book
from streaming.core.corrections import REACH_BLOCKS
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.market import CORRECTED, Market
from streaming.core.topic import Kind, Topic
from tests.core.node_events import BLOCK_MS, diffs, new, order, remove, statuses
from tests.core.relay_world import EPOCH, World, events
from tests.core.test_book_diffs import Copy
from tests.core.test_hub import ask, join

DIFF = Topic(Kind.L2_DIFF, "BTC")
BOOK, L4, L4_DIFF = (Topic(kind, "BTC") for kind in (Kind.L2_BOOK, Kind.L4_BOOK, Kind.L4_DIFF))
ETH_DIFF = Topic(Kind.L2_DIFF, "ETH")


def market(*oids: int) -> Market:
    """Books after block 10 with these bids."""
    made = Market(epoch=EPOCH)
    for topic in (DIFF, BOOK, L4, L4_DIFF, ETH_DIFF):
        made.want(topic)
    bids = [order(oid, px=str(100 - oid)) for oid in oids]
    made.load_checkpoint(10, [("BTC", bids, []), ("ETH", [order(900)], [])])
    return made


def copy_of(made: Market) -> dict[str, L4Book]:
    book = L4Book("BTC")
    for oid, resting in made.books["BTC"].orders.items():
        book.orders[oid] = resting
        book.l2.shift(resting.px, resting.sz, 1, is_bid=resting.is_bid)
    return {"BTC": book}


def block(height: int) -> Any:
    return diffs(height, new(1000 + height, px=str(200 + height)), time_ms=BLOCK_MS + height)


def test_a_correction_names_the_place_and_brings_the_snapshot() -> None:
    wrong, right = market(1, 2, 3), market(1)
    for made in (wrong, right):
        made.apply(block(11))
        made.apply(statuses(11))
    sent = wrong.correct(copy_of(right))
    assert {e.topic for e in sent} == {t.name for t in (DIFF, BOOK, L4, L4_DIFF)}  # not ETH's
    for topic in (DIFF, L4, L4_DIFF):
        reset, snapshot = [e for e in sent if e.topic == topic.name]
        assert (reset.role, reset.payload.decode()) == (Role.RESET, CORRECTED)
        assert (reset.position, reset.previous) == (end_of(11), Position(11))
        assert (snapshot.role, snapshot.position) == (Role.SNAPSHOT, end_of(11))
        assert snapshot.previous == end_of(11)
        assert snapshot.payload == right.snapshot(topic).payload
    (state,) = [e for e in sent if e.topic == BOOK.name]
    assert state == right.snapshot(BOOK)
    # The next frame follows the correction, so whoever missed it sees a hole.
    sent = [*wrong.apply(block(12)), *wrong.apply(statuses(12))]
    for topic in (DIFF, L4, L4_DIFF):
        (frame,) = [e for e in sent if e.topic == topic.name]
        assert (frame.position, frame.previous) == (Position(12), end_of(11))


def test_what_waits_for_its_statuses_is_in_the_corrected_book() -> None:
    wrong, right = market(1, 2, 3), market(1)
    for made in (wrong, right):
        made.apply(block(11))
    sent = wrong.correct(copy_of(right))
    assert [e.position for e in sent if e.topic == L4.name] == [end_of(11)] * 2
    assert [e for e in wrong.apply(statuses(11)) if e.topic in (L4.name, L4_DIFF.name)] == []
    wrong.apply(block(12))
    frames = {e.topic: e for e in wrong.apply(statuses(12))}
    assert frames[L4.name].previous == frames[L4_DIFF.name].previous == end_of(11)


class Desk:
    """A customer who keeps a copy of an `l2Diff` as the documentation says."""

    def __init__(self, world: World) -> None:
        self.world, self.desk = world, world.desk()
        self.copy: Copy | None = None
        self.told: list[str] = []
        self.cursor = ""
        self.desk.subscribe(type_="l2Diff", coin="BTC", id=1)

    def come_again(self) -> None:
        """Be cut, and resume from the last cursor, with the copy there is."""
        self.desk.session.close(now_s=self.world.now_s)
        self.desk = self.world.desk()
        self._take(self.desk.subscribe(type_="l2Diff", coin="BTC", id=1, from_=self.cursor))

    def read(self) -> None:
        self._take(self.desk.take())

    def _take(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            self.cursor = frame.get("cursor", self.cursor)
            if frame["data"].get("type") == "gap":
                self.cursor = frame["data"]["to"] or self.cursor
            if frame["channel"] != "l2Diff":
                self.told += events([frame])
            elif frame["data"].get("snapshot"):
                self.copy = Copy(frame["data"])
            elif self.copy is not None:
                for side, levels in zip(self.copy.sides, frame["data"]["levels"], strict=True):
                    for level in levels:
                        side.pop(level["px"], None)
                        if level["n"]:
                            side[level["px"]] = (level["sz"], level["n"])


def levels(made: Market) -> Any:
    return Copy(orjson.loads(made.snapshot(DIFF).payload)["data"]).levels()


@given(first=st.integers(1, 6), second=st.integers(1, 6), leads=st.lists(st.booleans(), min_size=8))
@settings(max_examples=60, deadline=None)
def test_followers_end_with_the_right_book_whichever_worker_corrects_first(
    first: int, second: int, leads: list[bool]
) -> None:
    """Two workers with the same wrong book publish; each corrects its own at a block of its own."""
    world = World()
    workers, right = {"A": market(1, 2, 3), "B": market(1, 2, 3)}, market(1)
    corrects = {"A": 10 + first, "B": 10 + second}
    desk = Desk(world)
    for name, made in workers.items():
        world.publish(made.snapshot(DIFF), worker=name)
    for height, a_leads in enumerate(leads[:8], start=11):
        right.apply(block(height))
        for name in ("A", "B") if a_leads else ("B", "A"):
            made = workers[name]
            sent = made.apply(block(height))
            if corrects[name] == height:
                sent += made.correct(copy_of(right))
            world.publish(*(e for e in sent if e.topic == DIFF.name), worker=name)
        for name in workers:
            world.hear(name, height)
        world.wait(0.1)
        desk.read()
    assert desk.copy is not None
    assert desk.copy.levels() == levels(right)
    assert desk.told.count("gap") == 2
    assert world.ledger.gaps == []
    assert world.hub.counters.holes == {}


@given(
    first=st.integers(1, 6),
    second=st.integers(1, 6),
    steps=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
        min_size=8,
        max_size=8,
    ),
    is_b_right=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_correction_that_the_bus_lost_is_read_from_the_log(
    first: int, second: int, steps: list[tuple[bool, bool, bool, bool]], is_b_right: bool
) -> None:
    """Each step is a block: who tells it first, whose message the bus loses, whether the customer
    comes again. The two correct their books at blocks of their own, if B's is wrong at all."""
    world = World()
    world.log.page = 100
    workers, right = {"A": market(1, 2, 3), "B": market(1, 2, 3)}, market(1)
    corrects = {"A": 10 + first, "B": 10 + second}
    if is_b_right:
        workers["B"], corrects["B"] = market(1), 0
    desk = Desk(world)
    for name, made in workers.items():
        world.publish(made.snapshot(DIFF), worker=name)

    def serve() -> None:
        asked, world.wishes.asked = world.wishes.asked, []
        if DIFF.name in asked:
            for name, made in workers.items():
                world.publish(made.snapshot(DIFF), worker=name)

    def pass_time() -> None:
        for _ in range(10):
            world.now_s += 0.1
            world.wait(0.1)
            world.hub.sweep(now_s=world.now_s)
            serve()
        desk.read()

    serve()
    desk.read()
    # Who comes back sooner may be told again.
    quiet = [(True, False, False, False)] * (REACH_BLOCKS + 3)
    for height, (a_leads, loses_a, loses_b, comes_again) in enumerate([*steps, *quiet], start=11):
        right.apply(block(height))
        for name in ("A", "B") if a_leads else ("B", "A"):
            made = workers[name]
            sent = made.apply(block(height))
            if corrects[name] == height:
                sent += made.correct(copy_of(right))
            sent = [e for e in sent if e.topic == DIFF.name]
            for envelope in sent:
                if envelope.role in (Role.UPDATE, Role.RESET):
                    world.log.append(envelope)
            is_lost = loses_a if name == "A" else loses_b
            if corrects[name] == height - 1:
                # The trace of a correction is the place that the next frame follows.
                is_lost = loses_a and loses_b
            if not is_lost:
                world.publish(*sent, worker=name, is_logged=False)
        for name in workers:
            world.hear(name, height)
        if height < 22 or height > 18 + REACH_BLOCKS:
            pass_time()
        if comes_again:
            desk.come_again()
            pass_time()
    assert desk.copy is not None
    assert desk.copy.levels() == levels(right)
    assert world.ledger.gaps == []
    told = len(desk.told)
    for _ in range(3):
        desk.come_again()
        pass_time()
    assert "gap" not in desk.told[told:], "a correction is told once"
    assert desk.copy.levels() == levels(right)


def test_a_correction_of_an_earlier_block_has_a_snapshot_asked_for_at_once() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(type_="l4Diff", coin="BTC")
    world.publish(l4(10, 10, Role.SNAPSHOT), l4(11, 10), l4(12, 11))
    world.wishes.asked.clear()
    world.publish(reset(11, L4_DIFF), l4(11, 11, Role.SNAPSHOT), worker="B")
    assert events(desk.take()) == ["gap"]
    assert world.wishes.asked == [L4_DIFF.name]
    world.publish(l4(12, 12, Role.SNAPSHOT), l4(13, 12))
    assert [f["channel"] for f in desk.take()] == ["l4Diff"] * 2


def reset(height: int, topic: Topic = L4) -> Envelope:
    return Envelope(
        topic.name, EPOCH, end_of(height), Position(height), Role.RESET, CORRECTED.encode()
    )


def l4(height: int, previous: int, role: Role = Role.UPDATE) -> Envelope:
    updates = {"time": 1, "height": height, "order_statuses": [], "book_diffs": []}
    payload = orjson.dumps({"channel": "l4Diff", "data": {"Updates": updates}})
    return Envelope(L4_DIFF.name, EPOCH, Position(height), Position(previous), role, payload)


def test_official_followers_begin_again_too() -> None:
    world = World()
    ada, socket = join(world.hub)
    ask(ada, world.hub, L4)

    def frame(height: int, previous: int, text: str, role: Role = Role.UPDATE) -> Envelope:
        return Envelope(L4.name, EPOCH, Position(height), Position(previous), role, text.encode())

    world.publish(frame(10, 10, "snap10", Role.SNAPSHOT), frame(11, 10, "u11"))
    world.publish(reset(11), frame(11, 11, "snap11", Role.SNAPSHOT))
    world.publish(frame(11, 10, "u11"), worker="B")
    world.publish(frame(12, 11, "u12"))
    assert socket.data() == ["snap10", "u11", "snap11", "u12"]


def test_a_resume_that_crosses_a_correction_begins_again() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(type_="l4Diff", coin="BTC")
    world.publish(l4(10, 10, Role.SNAPSHOT), l4(11, 10))
    cursor = desk.take()[-1]["cursor"]
    desk.session.close(now_s=world.now_s)
    correction = reset(12, L4_DIFF)
    world.log.append(correction)
    world.publish(l4(12, 11), correction, l4(12, 12, Role.SNAPSHOT), l4(13, 12))
    again = world.desk()
    again.subscribe(type_="l4Diff", coin="BTC", id=1, from_=cursor)
    world.wait(0.2)
    frames = again.take()
    assert events(frames)[:1] == ["gap"]
    assert frames[-1]["data"].get("reason", CORRECTED) == CORRECTED
    world.publish(l4(13, 13, Role.SNAPSHOT), l4(14, 13))
    assert [f["channel"] for f in again.take() if f["channel"] != "relay"] == ["l4Diff"] * 2


def test_a_correction_of_an_earlier_block_is_told_to_who_was_away() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(type_="l4Diff", coin="BTC")
    world.publish(l4(10, 10, Role.SNAPSHOT), l4(11, 10), l4(12, 11))
    cursor = desk.take()[-1]["cursor"]
    desk.session.close(now_s=world.now_s)
    world.publish(reset(11, L4_DIFF), worker="B")  # it is a block behind
    again = world.desk()
    again.subscribe(type_="l4Diff", coin="BTC", id=1, from_=cursor)
    world.wait(0.2)
    frames = again.take()
    assert events(frames)[0] == "gap"
    assert next(f["data"]["reason"] for f in frames if f["channel"] == "relay") == CORRECTED
    world.publish(l4(12, 12, Role.SNAPSHOT), l4(13, 12))
    assert [f["channel"] for f in again.take() if f["channel"] != "relay"] == ["l4Diff"] * 2


def test_a_correction_says_nothing_of_a_state() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(type_="bbo", coin="BTC")
    world.publish(Envelope("bbo BTC", EPOCH, end_of(5), Position(5), Role.RESET, b""))
    assert desk.take()[1:] == []


def test_the_removed_order_stays_removed() -> None:
    wrong, right = market(1, 2, 3), market(1, 2)
    wrong.correct(copy_of(right))
    wrong.apply(diffs(11, remove(2)))
    assert list(wrong.books["BTC"].orders) == [1]
