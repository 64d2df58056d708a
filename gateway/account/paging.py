"""Long lists in pages: each goes on after the last row of the one before, and costs the same
however far one is.

A cursor is signed for one list of one tenant. It holds nothing but a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from gateway.account.errors import BadCursor, BadValue

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
#: A cursor is a place of a handful of short values.
_MAX_CURSOR_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, and where it goes on; "" at its end."""

    rows: list[T]
    next_cursor: str = ""


def page(
    rows: QuerySet[Any],
    order: Sequence[str],
    *,
    of: str,
    tenant_id: int,
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
) -> Page[Any]:
    """Model instances or dicts of `rows` by `order` (`-name` is descending), whose columns are
    together unique and never NULL. `of` names the list. Raises BadCursor and BadValue."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadValue(
            _("limit: %(limit)s is not within 1 and %(most)s.")
            % {"limit": limit, "most": MAX_LIMIT}
        )
    signer = signing.Signer(salt=f"account.{of}.{tenant_id}")
    names = [name.removeprefix("-") for name in order]
    if cursor:
        rows = rows.filter(_beyond(order, _read(signer, cursor, len(names))))
    found = list(rows.order_by(*order)[: limit + 1])
    if len(found) <= limit:
        return Page(found)
    found.pop()
    last = found[-1]
    place = [_value_of(last, name) for name in names]
    return Page(found, signer.sign_object([_write(value) for value in place]))


def _value_of(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, dict) else getattr(row, name)


def _write(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"t": value.isoformat()}
    if isinstance(value, date):
        return {"d": value.isoformat()}
    return value


def _read(signer: signing.Signer, cursor: str, count: int) -> list[Any]:
    try:
        if len(cursor) > _MAX_CURSOR_CHARS:
            raise BadCursor
        place = signer.unsign_object(cursor)
        if not isinstance(place, list) or len(place) != count:
            raise BadCursor
        return [_value(value) for value in place]
    except (signing.BadSignature, ValueError, KeyError, UnicodeError):
        raise BadCursor from None


def _value(written: Any) -> Any:
    if isinstance(written, dict):
        if "t" in written:
            return datetime.fromisoformat(written["t"])
        return date.fromisoformat(written["d"])
    return written


def _beyond(order: Sequence[str], place: Sequence[Any]) -> Q:
    """Rows after `place`. The first part is implied by the rest, and what an index can use."""
    after, same = Q(), Q()
    for name, value in zip(order, place, strict=True):
        column, then = (name[1:], "lt") if name.startswith("-") else (name, "gt")
        after |= same & Q(**{f"{column}__{then}": value})
        same &= Q(**{column: value})
    first = order[0]
    column, bound = (first[1:], "lte") if first.startswith("-") else (first, "gte")
    return after if len(order) == 1 else Q(**{f"{column}__{bound}": place[0]}) & after
