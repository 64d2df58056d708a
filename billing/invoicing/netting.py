"""What is owed, set off against what is in somebody's favour. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Generic, NamedTuple, TypeVar

_From = TypeVar("_From")
_To = TypeVar("_To")


class Part(NamedTuple, Generic[_From, _To]):
    """`amount` (above 0) of `source`, used for `target`."""

    source: _From
    target: _To
    amount: Decimal


def set_off(
    owed: Iterable[tuple[_To, Decimal]], in_favour: Iterable[tuple[_From, Decimal]]
) -> list[Part[_From, _To]]:
    """Use what is in favour for what is owed, both in the order given, as far as either goes. All
    amounts are 0 or more."""
    parts: list[Part[_From, _To]] = []
    sources = iter(in_favour)
    source, left = next(sources, (None, None))
    for target, open_ in owed:
        while open_ > 0 and left is not None:
            amount = min(open_, left)
            if amount > 0:
                parts.append(Part(source, target, amount))  # type: ignore[arg-type]
            open_ -= amount
            left -= amount
            if left <= 0:
                source, left = next(sources, (None, None))
    return parts


def still_owed(owed: Iterable[tuple[_To, Decimal]], in_favour: Decimal) -> dict[_To, Decimal]:
    """What is left of each that is owed once `in_favour` is used for the first ones."""
    rows = list(owed)
    left = dict(rows)
    for part in set_off(rows, [(None, in_favour)]):
        left[part.target] -= part.amount
    return left
