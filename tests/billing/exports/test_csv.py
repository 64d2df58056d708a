"""Texts come back as they were, and run nowhere."""

from __future__ import annotations

import csv as reader
import io
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.exports import csv

WRITTEN = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", '"=1"', '=cmd|" /C calc"!A0'),
        *("😀 ünï", "two\nlines", "a\r\nb", 'say "so", twice', "", ",", "\ufeff=1", "\x00"),
    ]
)


def read(data: bytes) -> list[list[str]]:
    return list(reader.reader(io.StringIO(data.decode(), newline=""), strict=True))


def harmless(text: str) -> str:
    """What a text becomes, said in another way than by the code."""
    return "'" + text if text[:1] in tuple("=+-@\t\r") and text else text


@given(rows=st.lists(st.tuples(WRITTEN, WRITTEN), max_size=5))
def test_texts_come_back(rows: list[tuple[str, str]]) -> None:
    data = b"".join(csv.encode(csv.text("one", "other"), rows))
    found = read(data)
    assert found[0] == ["one", "other"]
    assert found[1:] == [[harmless(text) for text in row] for row in rows]
    assert all(cell[:1] not in tuple("=+-@\t\r") for row in found for cell in row if cell)


@given(
    amount=st.decimals(allow_nan=False, allow_infinity=False, places=4),
    whole=st.integers(),
)
def test_numbers_stay_numbers(amount: Decimal, whole: int) -> None:
    data = b"".join(csv.encode(csv.number("a", "b"), [(amount, whole)]))
    line = data.decode().splitlines()[1]
    assert '"' not in line
    assert "E" not in line.upper()
    assert (Decimal(line.split(",")[0]), int(line.split(",")[1])) == (amount, whole)


def test_times_flags_and_nothing() -> None:
    columns = (*csv.time("at", "day", "never"), *csv.flag("is_it"), *csv.number("none"))
    at = datetime(2026, 11, 30, 23, 0, 1, 999_999, timezone(timedelta(hours=-2)))
    data = b"".join(csv.encode(columns, [(at, date(2026, 11, 1), None, True, None)]))
    assert data.splitlines()[1] == b"2026-12-01T01:00:01Z,2026-11-01,,true,"
    assert csv.time_cell(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"


def test_internal_columns_and_rows_of_a_wrong_length() -> None:
    columns = (*csv.text("a"), *csv.text("who", is_internal=True), *csv.number("n"))
    hidden = b"".join(csv.encode(columns, [("x", "ada", 1)], with_internal=False))
    assert hidden == b'"a","n"\n"x",1\n'
    with pytest.raises(ValueError, match="2 values for 3 columns"):
        list(csv.encode(columns, [("x", "ada")]))


def test_blocks_are_small_and_whole_lines() -> None:
    blocks = list(csv.encode(csv.number("n"), ((n,) for n in range(10_000))))
    assert len(blocks) > 20
    assert all(block.endswith(b"\n") for block in blocks)
    assert [row for (row,) in read(b"".join(blocks))[1:]] == [str(n) for n in range(10_000)]
