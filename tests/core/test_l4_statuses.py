"""Statuses read without dicts are the same as those read with them."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.book import frames, l4_statuses
from tests.core.node_events import line, status

odd_values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    event = status(draw(st.integers(1, 10**12)), draw(st.sampled_from(["open", "triggered"])))
    for _ in range(draw(st.integers(0, 3))):
        inside = draw(st.booleans())
        part = event["order"] if inside and isinstance(event.get("order"), dict) else event
        key = draw(st.sampled_from(sorted(part))) if part else "user"
        if draw(st.booleans()):
            part.pop(key, None)
        else:
            part[key] = draw(odd_values)
    return event


@given(st.lists(events(), max_size=5))
def test_both_ways_give_the_same_frame(made: list[dict[str, Any]]) -> None:
    with contextlib.suppress(TypeError):  # orjson writes no integer above 64 bits
        text = line(7, made)
        try:
            body = l4_statuses.read(text, 7)
        except l4_statuses.Unusual:
            return
        read = orjson.loads(text)["events"]
        coined = [e for e in read if "coin" in e["order"]]
        fast = [e for e, own in zip(body.events, read, strict=True) if "coin" in own["order"]]
        assert frames.l4_updates(time_ms=1, height=7, statuses=fast, diffs=()) == (
            frames.l4_updates(
                time_ms=1,
                height=7,
                statuses=[l4_statuses.from_event(e) for e in coined],
                diffs=(),
            )
        )


def test_what_is_not_ascii_is_read_with_patience() -> None:
    text = line(7, [status(1)]).replace(b'"open"', b'"op\xc3"', 1)
    with pytest.raises(l4_statuses.Unusual):
        l4_statuses.read(text, 7)


def test_another_block_s_line_is_not_taken() -> None:
    with pytest.raises(l4_statuses.Unusual):
        l4_statuses.read(line(8, [status(1)]), 7)
