"""A plain table as data, for `dashboard/parts/table.html`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; numbers stand to the right."""

    title: str | Promise
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` hold one value (text, number, safe HTML) a column; `empty` is said where there are
    none."""

    caption: str | Promise
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    empty: str | Promise = ""

    def cells(self) -> Iterator[list[tuple[Column, Any]]]:
        """Each row with its columns."""
        for row in self.rows:
            yield list(zip(self.columns, row, strict=True))
