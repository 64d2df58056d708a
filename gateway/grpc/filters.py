"""Server-side filters: which of a block's events are wanted. Pure.

A filter names fields and values: an event fits when each named field is found in it, however deep,
with one of its values. Of several filters with names, one that fits is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

#: Of all filters of a stream; each costs a look at each event.
MAX_VALUES = 1_000
MAX_FILTERS = 16
MAX_DEPTH = 16

_raw = msgspec.json.Decoder(list[msgspec.Raw])


class TooMany(ValueError):
    """More values or filters than are allowed; one line."""


class Filter:
    """Fields and the values that fit."""

    def __init__(self, fields: Mapping[str, Iterable[str]]) -> None:
        self._fields = {
            name: frozenset(_folded(value) for value in values)
            for name, values in fields.items()
            if values
        }

    @property
    def values(self) -> int:
        """How many there are."""
        return sum(map(len, self._fields.values()))

    def fits(self, event: Any) -> bool:
        """Whether each field is there with one of its values."""
        return all(_has(event, name, wanted) for name, wanted in self._fields.items())


class Filters:
    """Those of one stream, by name. None: everything fits."""

    def __init__(self) -> None:
        self._filters: dict[str, Filter] = {}

    def add(self, name: str, wanted: Filter) -> None:
        """Add one, or replace that of the name. Raises TooMany, and changes nothing."""
        filters = {**self._filters, name: wanted}
        if len(filters) > MAX_FILTERS:
            raise TooMany(f"a stream has up to {MAX_FILTERS} named filters")
        if sum(each.values for each in filters.values()) > MAX_VALUES:
            raise TooMany(f"the filters of a stream have up to {MAX_VALUES} values in all")
        self._filters = filters

    @property
    def is_open(self) -> bool:
        """Whether everything fits."""
        return not self._filters or any(not each.values for each in self._filters.values())

    def own(self, events: bytes) -> bytes:
        """Of a block's events, joined by commas, those that are wanted, as they stand."""
        if self.is_open:
            return events
        wanted = []
        for raw in _raw.decode(b"[%b]" % events):
            text = bytes(raw)
            event = orjson.loads(text)
            if any(each.fits(event) for each in self._filters.values()):
                wanted.append(text)
        return b",".join(wanted)


def _has(value: Any, name: str, wanted: frozenset[str], depth: int = 0) -> bool:
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        if name in value and _is_one(value[name], wanted):
            return True
        return any(_has(inner, name, wanted, depth + 1) for inner in value.values())
    if isinstance(value, list):
        match value:
            case [str() as user, dict()] if name == "user" and _folded(user) in wanted:
                return True  # a fill: whose it is stands before it
        return any(_has(inner, name, wanted, depth + 1) for inner in value)
    return False


def _is_one(value: Any, wanted: frozenset[str]) -> bool:
    if isinstance(value, list):
        return any(_is_one(inner, wanted) for inner in value)
    if isinstance(value, bool):
        return ("true" if value else "false") in wanted
    return isinstance(value, (str, int, float)) and _folded(str(value)) in wanted


def _folded(value: str) -> str:
    """Addresses are written in either case."""
    return value.lower() if value[:2] in ("0x", "0X") else value
