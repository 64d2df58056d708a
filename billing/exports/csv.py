"""CSV that a spreadsheet opens and nobody's text can run in: UTF-8, a header, LF.

Texts are quoted always; numbers, times and flags never. A text that a spreadsheet would take for a
formula gets an apostrophe before it. The same rows are the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

#: What begins a formula, in one spreadsheet or another.
FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")
#: Rows that are handed on at once: some ten kilobytes.
ROWS_A_BLOCK = 256


class Column(NamedTuple):
    """A column: its name, and how a value of it is written. An internal one (who of the staff did
    it, and what they noted) is not for customers."""

    name: str
    write: Callable[[Any], str]
    is_internal: bool = False


def text_cell(value: str | None) -> str:
    """A text, quoted and harmless; None is an empty cell."""
    if value is None:
        return ""
    if value.startswith(FORMULA_BEGINS):
        value = "'" + value
    return '"' + value.replace('"', '""') + '"'


def number_cell(value: Decimal | int | None) -> str:
    """Plain digits, without an exponent; negative ones begin with `-` and stay numbers."""
    return "" if value is None else format(value, "f") if type(value) is Decimal else str(value)


def time_cell(value: datetime | date | None) -> str:
    """ISO 8601 in UTC, cut to the second: `2026-11-30T23:59:59Z`; a date is `2026-11-30`."""
    if value is None:
        return ""
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(timespec="seconds")[:19] + "Z"


def flag_cell(value: bool) -> str:
    """`true` or `false`."""
    return "true" if value else "false"


def text(*names: str, is_internal: bool = False) -> tuple[Column, ...]:
    """Columns of texts."""
    return tuple(Column(name, text_cell, is_internal) for name in names)


def number(*names: str) -> tuple[Column, ...]:
    """Columns of amounts, quantities, counts."""
    return tuple(Column(name, number_cell) for name in names)


def time(*names: str) -> tuple[Column, ...]:
    """Columns of instants and days."""
    return tuple(Column(name, time_cell) for name in names)


def flag(*names: str) -> tuple[Column, ...]:
    """Columns of yes and no."""
    return tuple(Column(name, flag_cell) for name in names)


def encode(
    columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, with_internal: bool = True
) -> Iterator[bytes]:
    """The header and `rows`, each as long as `columns`, in blocks."""
    shown = [n for n, column in enumerate(columns) if with_internal or not column.is_internal]
    cells = [(n, columns[n].write) for n in shown]
    block = [",".join(text_cell(columns[n].name) for n in shown)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} values for {len(columns)} columns")
        block.append(",".join([write(row[n]) for n, write in cells]))
        if len(block) >= ROWS_A_BLOCK:
            yield _bytes(block)
            block.clear()
    if block:
        yield _bytes(block)


def _bytes(block: list[str]) -> bytes:
    # A half of a surrogate pair is no character, and no database of ours kept one.
    return ("\n".join(block) + "\n").encode("utf-8", "replace")
