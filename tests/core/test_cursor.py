"""The cursor: what was written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core import cursor as cursors
from streaming.core.cursor import MAX_OTHERS, MAX_TEXT, BadCursor, Cursor, source_of
from streaming.core.envelope import LAST_INDEX, Position, end_of
from streaming.ws.close_codes import MAX_INBOUND_FRAME_BYTES

positions = st.builds(Position, st.integers(0, 2**53), st.integers(0, LAST_INDEX))
others = st.dictionaries(st.integers(0, 2**32 - 1), positions, max_size=40)
sources = st.sampled_from(["n", "p-0123456789ab"])


@given(sources, positions, others, st.integers(0, 2**16 - 1))
def test_what_was_written_is_read(
    source: str, position: Position, others: dict[int, Position], kind: int
) -> None:
    cursor = Cursor(source, position, others, kind)
    assert cursors.decode(cursors.encode(cursor)) == cursor


@given(positions, st.data())
def test_one_changed_character_is_noticed(position: Position, data: st.DataObject) -> None:
    text = cursors.encode(Cursor("n", position))
    at = data.draw(st.integers(0, len(text) - 2))  # the last may carry unused bits
    other = data.draw(st.sampled_from([c for c in "AZaz09-_" if c != text[at]]))
    with pytest.raises(BadCursor):
        cursors.decode(text[:at] + other + text[at + 1 :])


@given(st.text(max_size=80))
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadCursor, match=r"\A[^\n]+\Z"):
        cursors.decode(text)


def test_a_place_of_node_data_is_short_and_keeps_its_epochs_apart_from_others() -> None:
    assert len(cursors.encode(Cursor("n", Position(985_148_182, 12)))) <= 16
    assert (source_of("n-0123456789ab"), source_of("p-77")) == ("n", "p-77")


def test_a_cursor_of_many_topics_names_those_that_are_elsewhere() -> None:
    cursor = Cursor("n", end_of(9), {cursors.topic_key("trades BTC"): Position(10, 3)})
    assert cursor.of("trades BTC") == Position(10, 3)
    assert cursor.of("trades ETH") == end_of(9)


@given(positions, positions)
def test_the_longest_cursor_is_read_and_fits_into_a_frame(base: Position, far: Position) -> None:
    """Whatever is written is read again, and leaves room for what else a subscribe says."""
    cursor = Cursor("n", base, dict.fromkeys(range(MAX_OTHERS), far), kind=7)
    text = cursors.encode(cursor)
    assert cursors.decode(text) == cursor
    assert len(text) <= MAX_TEXT < MAX_INBOUND_FRAME_BYTES - 8_192


def test_a_cursor_of_the_version_before_is_of_any_kind() -> None:
    assert cursors.decode("AQFulqzg1QMMGQk") == Cursor("n", Position(985_142_806, 12))
