"""What the exchange changes is told once, and a recorded exchange has changed nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.envelope import Role
from streaming.core.public import PublicFeed
from streaming.core.schema_sentinel import MAX_FINDINGS, Change, Finding, SchemaSentinel
from streaming.core.topic import Kind, Topic

SECOND_NS = 1_000_000_000
BBO: dict[str, Any] = {"coin": "BTC", "time": 1, "bbo": [{"px": "1.0", "sz": "2.0", "n": 1}, None]}


def found(sentinel: SchemaSentinel, channel: str, data: Any, *, now_ns: int = 0) -> list[Finding]:
    sentinel.observe(channel, data, now_ns=now_ns)
    return sentinel.drain()


def test_what_is_known_is_no_news() -> None:
    assert found(SchemaSentinel(), "bbo", BBO) == []


@pytest.mark.parametrize(
    ("channel", "data", "change", "detail"),
    [
        ("bbo", {**BBO, "seq": 7}, Change.FIELD, "field seq was never seen"),
        (
            "bbo",
            {**BBO, "bbo": [None, {"px": "1.0", "sz": "1.0", "n": 1, "q": 0}]},
            Change.FIELD,
            "field bbo[].q was never seen",
        ),
        ("webData4", {"a": {"b": 1}}, Change.CHANNEL, "channel 'webData4' was never seen"),
    ],
)
def test_news_are_told_once(channel: str, data: Any, change: Change, detail: str) -> None:
    sentinel = SchemaSentinel()
    assert found(sentinel, channel, data) == [Finding(change, channel, detail)]
    assert found(sentinel, channel, data) == []


def test_another_type_is_news_but_null_is_not() -> None:
    sentinel = SchemaSentinel()
    assert found(sentinel, "bbo", BBO) == []
    assert found(sentinel, "bbo", {**BBO, "time": None}) == []
    (finding,) = found(sentinel, "bbo", {**BBO, "time": "1"})
    assert finding == Finding(Change.TYPE, "bbo", "field time is a string, and was a number")
    assert found(sentinel, "bbo", {**BBO, "time": "2"}) == []


def test_maps_by_coin_hold_data_and_no_fields() -> None:
    sentinel = SchemaSentinel()
    assert found(sentinel, "allMids", {"mids": {f"@{n}": "1.0" for n in range(1_000)}}) == []


def pushes(sentinel: SchemaSentinel, *, every_s: float, count: int, coin: str = "BTC") -> None:
    for number in range(count):
        book = {"coin": coin, "time": 1, "levels": [[], []]}
        sentinel.observe("l2Book", book, now_ns=int(number * every_s * SECOND_NS))


def test_a_new_cadence_is_told_once() -> None:
    sentinel = SchemaSentinel()
    pushes(sentinel, every_s=5.4, count=50)
    pushes(sentinel, every_s=0.5, count=50, coin="ETH")
    assert sentinel.drain() == []
    pushes(sentinel, every_s=60.0, count=50, coin="SOL")
    (finding,) = sentinel.drain()
    assert finding == Finding(Change.CADENCE, "l2Book", "comes every 60 s; known is 5.4 s, 0.54 s")
    pushes(sentinel, every_s=59.0, count=50, coin="DOGE")
    assert sentinel.drain() == []


def test_recorded_frames_hold_no_news(recorded_frames: list[str]) -> None:
    sentinel = SchemaSentinel()
    for raw in recorded_frames:
        frame = orjson.loads(raw)
        if frame["channel"] not in ("subscriptionResponse", "error", "pong", "post"):
            sentinel.observe(frame["channel"], frame["data"], now_ns=0)
    assert sentinel.drain() == []


def test_a_frame_with_news_passes() -> None:
    sentinel = SchemaSentinel()
    made = PublicFeed("p-1", sentinel=sentinel)
    made.subscribed(Topic(Kind.BBO, BBO["coin"]))
    (envelope,) = made.take(orjson.dumps({"channel": "bbo", "data": {**BBO, "new": 1}}), read_ns=0)
    assert envelope.role is Role.UPDATE
    assert [finding.change for finding in sentinel.drain()] == [Change.FIELD]


def test_one_that_makes_up_names_cannot_fill_memory() -> None:
    sentinel = SchemaSentinel()
    for number in range(MAX_FINDINGS + 500):
        sentinel.observe("bbo", {f"f{number}": 1}, now_ns=0)
        sentinel.observe(f"c{number}", {}, now_ns=0)
    assert len(sentinel.drain()) == MAX_FINDINGS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.sampled_from(["bbo", "l2Book", "user", "x"]), json_values)))
def test_nothing_breaks_it_and_twice_is_once(frames) -> None:
    sentinel = SchemaSentinel()
    for channel, data in frames:
        sentinel.observe(channel, data, now_ns=0)
    first = sentinel.drain()
    assert len(first) == len(set(first))
    for channel, data in frames:
        sentinel.observe(channel, data, now_ns=0)
    assert [finding for finding in sentinel.drain() if finding.change is not Change.TYPE] == []


#: As `json.loads` makes them of `"\ud800"`: half a surrogate pair.
any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=5)


@given(channel=any_text, first=any_text, second=any_text)
def test_a_finding_is_one_line_of_clean_text(channel: str, first: str, second: str) -> None:
    sentinel = SchemaSentinel()
    for data in ({first: {second: 1}}, {first: {second: "1"}}):
        sentinel.observe(channel, data, now_ns=0)
        sentinel.observe("bbo", data, now_ns=0)
    for finding in sentinel.drain():
        assert finding.key.encode().decode().isprintable()
        assert orjson.loads(orjson.dumps([*finding])) == [*finding]
