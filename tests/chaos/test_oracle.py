"""The oracle finds every planted fault, and finds nothing in a faultless stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.oracle import Got, Marker, Record, histogram, judge
from tests.support.pristine import Event, digest, trades_of


def chain(sizes: list[int]) -> list[Event]:
    """Blocks 1, 2, … with so many events each."""
    return [
        Event(f"{height}/{index}", f"d{height}/{index}", height, made_ns=height * 1_000)
        for height, size in enumerate(sizes, start=1)
        for index in range(size)
    ]


def heard(events: list[Event]) -> list[Record]:
    return [Got(event.key, event.digest, at_ns=event.made_ns + 7) for event in events]


chains = (
    st.lists(st.integers(0, 3), min_size=3, max_size=12).map(chain).filter(lambda c: len(c) > 3)
)


@given(chains, st.data())
def test_a_faultless_stream_is_exact_wherever_it_begins(
    events: list[Event], data: st.DataObject
) -> None:
    begin = data.draw(st.integers(0, len(events) - 1))
    verdict = judge(events, heard(events[begin:]), until=99)
    assert verdict.is_exact
    assert verdict.expected == len(events) - begin
    assert set(verdict.lateness_ns) == {7}


@given(chains, st.data())
def test_every_lost_event_is_missing(events: list[Event], data: st.DataObject) -> None:
    lost = data.draw(st.sets(st.sampled_from(events[1:]), min_size=1))
    verdict = judge(events, heard([e for e in events if e not in lost]), until=99)
    assert set(verdict.missing) == lost
    assert not verdict.is_clean


@given(chains, st.data())
def test_a_loss_at_the_end_or_before_the_first_counts_where_it_was_owed(
    events: list[Event], data: st.DataObject
) -> None:
    after = data.draw(st.integers(1, events[-1].height - 1))
    kept = data.draw(st.lists(st.sampled_from(events), unique=True).map(sorted_by(events)))
    verdict = judge(events, heard(kept), after=after, until=99)
    assert verdict.missing == [e for e in events if e.height > after and e not in kept]


def sorted_by(events: list[Event]):  # type: ignore[no-untyped-def]
    return lambda kept: sorted(kept, key=events.index)


@given(chains, st.data())
def test_every_repetition_is_a_duplicate(events: list[Event], data: st.DataObject) -> None:
    records = heard(events)
    planted = data.draw(st.lists(st.integers(0, len(events) - 1), min_size=1, max_size=4))
    for place in planted:
        records.insert(data.draw(st.integers(place + 1, len(records))), heard(events)[place])
    verdict = judge(events, records, until=99)
    assert sorted(verdict.duplicate) == sorted(events[place].key for place in planted)
    assert not verdict.missing


@given(chains, st.data())
def test_every_swap_is_reordered(events: list[Event], data: st.DataObject) -> None:
    records = heard(events)
    first, second = sorted(
        data.draw(st.lists(st.integers(0, len(events) - 1), min_size=2, max_size=2, unique=True))
    )
    records[first], records[second] = records[second], records[first]
    verdict = judge(events, records, until=99)
    assert events[first].key in verdict.reordered
    assert not verdict.missing


@given(chains, st.data())
def test_a_changed_value_is_corrupted_and_an_invented_one_unknown(
    events: list[Event], data: st.DataObject
) -> None:
    records = heard(events)
    place = data.draw(st.integers(0, len(events) - 1))
    records[place] = Got(events[place].key, "other")
    records.append(Got("never", "happened"))
    verdict = judge(events, records, until=99)
    assert verdict.corrupted == [events[place].key]
    assert verdict.unknown == ["never"]


@given(chains, st.data())
def test_a_hole_is_explained_by_the_one_marker_over_it(
    events: list[Event], data: st.DataObject
) -> None:
    first = data.draw(st.integers(events[0].height + 1, events[-1].height))
    last = data.draw(st.integers(first, events[-1].height))
    lost = [e for e in events if first <= e.height <= last]
    before = heard([e for e in events if e.height < first])
    behind = heard([e for e in events if e.height > last])
    marker = Marker(first, last)
    verdict = judge(events, [*before, marker, *behind], until=99)
    assert verdict.explained == lost
    assert verdict.is_clean is bool(lost)
    assert verdict.idle_markers == ([] if lost else [marker])
    if lost:
        twice = judge(events, [*before, marker, Marker(first, last + 1), *behind], until=99)
        assert twice.doubly_marked == lost
    if lost and behind:
        late = judge(events, [*before, *behind, marker], until=99)
        assert late.late_markers == [marker]


def test_a_replay_after_a_gap_fills_in_without_being_out_of_order() -> None:
    events = chain([1, 1, 1, 1])
    live = heard([events[0], events[3]])
    replayed = [Got(e.key, e.digest, is_replay=True) for e in events[1:3]]
    assert judge(events, [*live, *replayed], until=99).is_exact


def test_the_extra_gap_is_what_the_chain_did_not_take() -> None:
    events = [Event(str(n), "d", n, made_ns=n * 70_000_000) for n in range(1, 4)]
    at = [Got("1", "d", 71_000_000), Got("2", "d", 141_000_000), Got("3", "d", 411_000_000)]
    verdict = judge(events, at, until=3)
    assert verdict.extra_gap_ms == 200.0
    assert verdict.lateness_ms(50) == 1.0
    assert histogram([0.5, 3, 20_000])["more"] == 1


def test_trades_are_paired_from_their_two_fills() -> None:
    common = {"coin": "BTC", "px": "1.0", "sz": "2.0", "time": 5, "hash": "0x0", "tid": 9}
    maker = {**common, "side": "A", "crossed": False, "oid": 1}
    taker = {**common, "side": "B", "crossed": True, "oid": 2}
    ((coin, trade),) = trades_of([["0xseller", maker], ["0xbuyer", taker]])
    assert coin == "BTC"
    assert trade == {**common, "side": "B", "users": ["0xbuyer", "0xseller"]}
    assert digest(trade) == digest(dict(reversed(trade.items())))
