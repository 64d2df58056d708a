"""An upstream that sends garbage is left alone for a while, one with a new frame is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming.upstream.quarantine import (
    FIRST_S,
    FORGIVEN_S,
    LONGEST_S,
    MAX_FAULTS,
    WINDOW_S,
    Quarantine,
)


@given(st.integers(0, 3), st.integers(1, 20))
def test_many_and_a_quarter_are_too_many(good: int, per_s: int) -> None:
    record, is_enough = Quarantine(), False
    for number in range(MAX_FAULTS * (good + 1)):
        is_enough |= record.note(faults=not number % (good + 1), now_s=number / (per_s * 10_000))
    assert is_enough


@given(st.integers(4, 12))
def test_one_kind_of_frame_in_a_new_shape_is_not(good: int) -> None:
    record = Quarantine()
    for number in range(20_000):
        assert not record.note(faults=not (number + 1) % (good + 1), now_s=number / 2_000)


def test_a_slow_trickle_is_not() -> None:
    record, now_s = Quarantine(), 0.0
    for _ in range(2_000):
        now_s += 1.1 * WINDOW_S / MAX_FAULTS
        assert not record.note(faults=1, now_s=now_s)


def test_it_is_left_alone_longer_each_time_until_it_is_forgiven() -> None:
    record, now_s, pauses = Quarantine(), 0.0, []
    for _ in range(6):
        pauses.append(record.begin(now_s=now_s))
        assert record.is_on(now_s=now_s)
        now_s += pauses[-1]
        assert not record.is_on(now_s=now_s)
    assert pauses == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, LONGEST_S, LONGEST_S]
    assert record.begin(now_s=now_s + FORGIVEN_S) == FIRST_S
