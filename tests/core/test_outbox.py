"""What waits for a slow customer."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streaming.core.counted import counted
from streaming.core.outbox import Fate, Frame, Outbox

frames = st.builds(
    lambda size, topic: Frame(b"x" * size, counted=counted("c"), topic=topic),
    st.integers(0, 700),
    st.none() | st.sampled_from(["l2Book A", "l2Book B", "bbo A"]),
)


def test_a_newer_state_takes_the_place_of_the_waiting_one() -> None:
    outbox = Outbox(10_000)
    first, event, newer = Frame(b"1", topic="a"), Frame(b"2"), Frame(b"3", topic="a")
    assert [outbox.offer(f) for f in (first, event, newer)] == [
        Fate.QUEUED,
        Fate.QUEUED,
        Fate.CONFLATED,
    ]
    assert outbox.drain(10_000) == [newer, event]


def test_what_is_given_back_goes_in_front_unless_something_newer_waits() -> None:
    outbox = Outbox(10_000)
    old, event, newer, later = (
        Frame(b"1", topic="a"),
        Frame(b"2"),
        Frame(b"3", topic="a"),
        Frame(b"4"),
    )
    for one in (newer, later):
        outbox.offer(one)
    outbox.give_back([old, event])
    assert outbox.drain(10_000) == [newer, event, later]
    assert outbox.size_bytes == 0


def test_the_last_frame_is_queued_whatever_the_bound() -> None:
    outbox = Outbox(100)
    outbox.offer(Frame(b"x" * 90))
    last = Frame(b"y" * 90)
    outbox.append(last)
    assert outbox.drain(10_000)[-1] is last


def test_one_frame_larger_than_the_bound_may_wait_alone() -> None:
    outbox = Outbox(1_000)
    assert outbox.offer(Frame(b"x" * 5_000)) is Fate.QUEUED
    assert outbox.offer(Frame(b"x")) is Fate.SHED


def test_bulk_is_bound_by_its_age_and_takes_no_bytes() -> None:
    outbox = Outbox(1_000, max_lag_s=5.0)
    for number in range(51):
        assert outbox.offer(Frame(b"x" * 5_000, made_s=number / 10)) is Fate.QUEUED
    assert outbox.size_bytes == 0
    assert outbox.offer(Frame(b"state", topic="a")) is Fate.QUEUED
    assert outbox.offer(Frame(b"x", made_s=5.2)) is Fate.SHED
    outbox.drain(30_000)  # five of them: the oldest is now of 0.5
    assert outbox.offer(Frame(b"x", made_s=5.5)) is Fate.QUEUED
    assert outbox.offer(Frame(b"x", made_s=5.6)) is Fate.SHED
    assert len(outbox.drain(10**9)) == 51 - 5 + 2
    assert outbox.size_bytes == 0
    assert outbox.offer(Frame(b"x", made_s=99.0)) is Fate.QUEUED


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60), st.floats(0.5, 10))
def test_no_bulk_waits_behind_bulk_older_than_the_lag(
    steps: list[tuple[float, bool]], max_lag_s: float
) -> None:
    outbox, now_s = Outbox(10**9, max_lag_s=max_lag_s), 0.0
    for step_s, is_drained in steps:
        now_s += step_s
        outbox.offer(Frame(b"x" * 100, made_s=now_s))
        if is_drained:
            taken = outbox.drain(250)
            outbox.give_back(taken[1:])
    waiting = [frame.made_s for frame in outbox.drain(10**9)]
    assert waiting == sorted(waiting)
    assert not waiting or waiting[-1] - waiting[0] <= max_lag_s


@given(st.lists(frames))
def test_every_frame_has_exactly_one_fate(offered: list[Frame]) -> None:
    outbox = Outbox(max_bytes=2_000)
    fates = Counter(outbox.offer(frame) for frame in offered)
    assert len(outbox.drain(10_000_000)) == fates[Fate.QUEUED]
    assert fates.total() == len(offered)


@given(st.lists(frames), st.lists(st.integers(1, 3_000), min_size=1))
def test_the_size_is_what_waits_and_never_above_the_bound(
    offered: list[Frame], limits: list[int]
) -> None:
    outbox = Outbox(max_bytes=2_000)
    for number, frame in enumerate(offered):
        outbox.offer(frame)
        assert outbox.size_bytes <= 2_000
        if number % 3 == 2:
            outbox.drain(limits[number % len(limits)])
    rest = outbox.drain(10_000_000)
    assert outbox.size_bytes == 0
    assert len(outbox) == 0
    assert sum(len(f.wire) for f in rest) <= 2_000


@given(st.lists(frames))
def test_events_keep_their_order_and_are_never_replaced(offered: list[Frame]) -> None:
    outbox = Outbox(max_bytes=10**9)
    for frame in offered:
        outbox.offer(frame)
    drained = outbox.drain(10**9)
    assert [f for f in drained if f.topic is None] == [f for f in offered if f.topic is None]
    for topic in {f.topic for f in offered} - {None}:
        assert [f for f in drained if f.topic == topic] == [f for f in offered if f.topic == topic][
            -1:
        ]


@given(st.integers(0, 200_000))
def test_the_header_says_the_length(size: int) -> None:
    wire = Frame(b"x" * size).wire
    assert wire[0] == 0x81
    length, offset = wire[1], 2
    if length == 126:
        length, offset = int.from_bytes(wire[2:4], "big"), 4
    elif length == 127:
        length, offset = int.from_bytes(wire[2:10], "big"), 10
    assert length == size == len(wire) - offset
