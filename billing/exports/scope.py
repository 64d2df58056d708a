"""Of when and whose an export is, and how rows are read without holding them all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

#: Rows of a page: of one statement, and in memory at once.
PAGE_ROWS = 2_000
#: Documents whose lines are read together.
PAGE_DOCUMENTS = 100

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """The UTC months `[start, end)`, of one tenant (by id) or of all."""

    start: datetime
    end: datetime
    tenant: int | None = None

    def within(self, name: str) -> dict[str, datetime]:
        """The filter of rows whose column `name` lies in the period."""
        return {f"{name}__gte": self.start, f"{name}__lt": self.end}

    def of(self, name: str = "tenant") -> dict[str, int]:
        """The filter of rows whose tenant is `name`."""
        return {} if self.tenant is None else {name: self.tenant}

    @property
    def months(self) -> tuple[date, date]:
        """The first days of its first month and of the one after its last."""
        return self.start.date(), self.end.date()

    def __str__(self) -> str:
        is_year = (self.end.year, self.end.month) == (self.start.year + 1, self.start.month)
        return f"{self.start:%Y}" if is_year else f"{self.start:%Y-%m}"


def parse_period(text: str, *, tenant: int | None = None) -> Scope:
    """The scope of a month, `2026-11`, or of a year, `2026`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{4})(?:-([0-9]{2}))?", text, re.ASCII)
    if found is None:
        raise ValueError(
            _("%(text)r is no period: write a month like 2026-11, or a year, 2026")
            % {"text": text[:40]}
        )
    year, month = int(found[1]), int(found[2] or 1)
    if not (2000 <= year <= 2999 and 1 <= month <= 12):
        raise ValueError(
            _("%(text)r is no period: years are 2000 to 2999, months 01 to 12") % {"text": text}
        )
    end = (year + 1, 1) if found[2] is None or month == 12 else (year, month + 1)
    return Scope(datetime(year, month, 1, tzinfo=UTC), datetime(*end, 1, tzinfo=UTC), tenant)


def pages(
    rows: QuerySet[Any], order: Sequence[str], columns: Sequence[str], *, size: int = PAGE_ROWS
) -> Iterator[list[Row]]:
    """Tuples of `order` and then `columns`, by `order`, which is unique and never NULL.

    Each page is a statement of its own that begins after the last row of the one before: drivers
    of MySQL read the whole answer of a statement into memory, whatever is asked of them.
    """
    rows = rows.order_by(*order).values_list(*order, *columns)
    page = list(rows[:size])
    while page:
        yield page
        if len(page) < size:
            return
        last = page[-1][: len(order)]
        page = list(rows.filter(_beyond(order, last))[:size])


def paged(
    rows: QuerySet[Any], order: Sequence[str], columns: Sequence[str], *, size: int = PAGE_ROWS
) -> Iterator[Row]:
    """The rows of all pages."""
    for page in pages(rows, order, columns, size=size):
        yield from page


def _beyond(order: Sequence[str], last: Row) -> Q:
    """Rows after `last`. The first part is implied by the rest, and what an index can use."""
    after, same = Q(), Q()
    for name, value in zip(order, last, strict=True):
        after |= same & Q(**{f"{name}__gt": value})
        same &= Q(**{name: value})
    return after if len(order) == 1 else Q(**{f"{order[0]}__gte": last[0]}) & after
