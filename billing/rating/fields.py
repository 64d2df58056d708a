"""Reads a JSON object field by field and collects every mistake, each as one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from typing import NamedTuple, TypeVar

import orjson

from billing.rating.money import PRICE_PLACES, ZERO, render

MAX_TEXT_CHARS = 1_000_000
#: What a signed database integer of 64 bits holds.
MAX_UNITS = 2**63 - 1
_SHOWN_CHARS = 40

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)
_REQUIRED = object()
_DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]+))?", re.ASCII)
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


class Mistake(NamedTuple):
    """What is wrong, where (`meters[0].pricing.price`), and what to do about it."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


class MalformedDocument(ValueError):
    """Not a document we can price with. `mistakes` has each, and the text a line for each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


def parse_json(text: str | bytes) -> object:
    """The JSON in `text`, in which no name comes twice and every number is whole.

    Raises MalformedDocument.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise MalformedDocument(
            [Mistake("", f"The document is longer than {MAX_TEXT_CHARS} characters; shorten it.")]
        )
    try:
        _refuse_deep(text)
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
    except MalformedDocument:
        raise
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedDocument(
            [Mistake("", f"This is not JSON at {place} ({error.msg}); correct it there.")]
        ) from None
    except RecursionError:
        raise MalformedDocument(
            [Mistake("", "The document is nested too deeply; five levels are enough.")]
        ) from None
    except ValueError:  # not UTF-8, or a number of thousands of digits
        raise MalformedDocument(
            [Mistake("", "This is not JSON in UTF-8 with numbers below 2^63; correct it.")]
        ) from None


def _refuse_deep(text: str | bytes) -> None:
    """Raises RecursionError beyond 1,024 levels, whatever limit other libraries have set for the
    process: `py_ecc` sets 100,000, at which the parser in C would leave the stack."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise RecursionError from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise MalformedDocument([Mistake("", f"{_shown(name)} comes twice; remove one.")])
        found[name] = value
    return found


def _no_fraction(text: str) -> object:
    advice = 'write whole numbers plainly and money as a text, like "0.05"'
    raise MalformedDocument([Mistake("", f"The number {_cut(text)} is not whole; {advice}.")])


class Fields:
    """The fields of one JSON object. Reading one that is wrong notes a mistake and answers a value
    of the right type, so that the reader can go on to the next."""

    def __init__(self, value: object, where: str, mistakes: list[Mistake]) -> None:
        self._where = where
        self._mistakes = mistakes
        self._seen: set[str] = set()
        self._values: Mapping[str, object] = {}
        #: Whether this is an object at all; if not, that was said and its fields are not missed.
        self.is_object = isinstance(value, dict)
        if isinstance(value, dict):
            self._values = value
        else:
            self.note("", f"must be an object in {{…}}, not {_kind(value)}.")

    def note(self, name: str, text: str) -> None:
        """Note a mistake of field `name`, or of the object as a whole where it is empty."""
        self._mistakes.append(Mistake(self._path(name), text))

    @property
    def mistake_count(self) -> int:
        """Mistakes noted so far, in the whole document. A check over several fields waits until
        each of them is right, so that one slip is one line."""
        return len(self._mistakes)

    def ignore_rest(self) -> None:
        """Take no offence at fields that were not read: what they mean hangs on one that is
        wrong."""
        self._seen |= set(self._values)

    def text(self, name: str, *, max_chars: int = 80) -> str:
        """A text for people."""
        value = self._get(name)
        if isinstance(value, str):
            if value.strip() != value or not value or not value.isprintable():
                self.note(name, "must be printable text without blanks around it; correct it.")
            elif len(value) > max_chars:
                self.note(name, f"has {len(value)} characters, at most {max_chars}; shorten it.")
            return value
        return self._wrong(name, value, 'a text in "quotes"', "")

    def word(self, name: str, pattern: re.Pattern[str], shape: str, default: object = ...) -> str:
        """A text of a fixed shape; `shape` says which, to people."""
        value = self._get(name, default)
        if isinstance(value, str):
            if not pattern.fullmatch(value):
                self.note(name, f"{_shown(value)} is not {shape}; correct it.")
            return value
        return self._wrong(name, value, 'a text in "quotes"', "")

    def whole(self, name: str, *, low: int, high: int, default: object = ...) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(name, default)
        if isinstance(value, int) and not isinstance(value, bool):
            if low <= value <= high:
                return value
            self.note(name, f"{_cut(str(value))} is outside {low}…{high}; choose one within.")
            return low
        return self._wrong(name, value, f"a whole number from {low} to {high}", low)

    def limit(self, name: str, *, high: int, default: object = ...) -> int | None:
        """A whole number from 0 to `high`, or null for no limit."""
        if name in self._values and self._values[name] is None:
            self._seen.add(name)
            return None
        return self.whole(name, low=0, high=high, default=default)

    def flag(self, name: str, *, default: object = ...) -> bool:
        """True or false."""
        value = self._get(name, default)
        return (
            value if isinstance(value, bool) else self._wrong(name, value, "true or false", False)
        )

    def choice(self, name: str, kind: type[_E], *, default: object = ...) -> _E:
        """One of the words of `kind`."""
        value = self._get(name, default)
        words = [str(word) for word in kind]
        if isinstance(value, str):
            if value in words:
                return kind(value)
            self.note(name, f"{_shown(value)} is not known; write {_list(words, value)}.")
            return next(iter(kind))
        return self._wrong(name, value, f"one of {', '.join(words)}", next(iter(kind)))

    def decimal(
        self,
        name: str,
        *,
        places: int = PRICE_PLACES,
        high: Decimal,
        default: object = ...,
    ) -> Decimal:
        """A number from 0 to `high` with at most `places` decimals, written as a text."""
        value = self._get(name, default)
        if isinstance(value, Decimal):
            return value
        if not isinstance(value, str):
            return self._wrong(name, value, 'a number written as a text, like "0.05"', ZERO)
        if value.startswith("-"):
            self.note(name, f"{_shown(value)} is negative; write 0 or more.")
        elif (match := _DECIMAL.fullmatch(value)) is None:
            advice = 'digits with a decimal point, like "1234.50"'
            self.note(name, f"{_shown(value)} is not a number; write {advice}.")
        elif len(match[2] or "") > places:
            count = len(match[2])
            self.note(name, f"{_shown(value)} has {count} decimals, at most {places}; round it.")
        elif (number := Decimal(value)) > high:
            self.note(name, f"{_shown(value)} is beyond {render(high)}; lower it.")
        else:
            return number
        return ZERO

    def instant(self, name: str, *, full_hour: bool, default: object = ...) -> datetime:
        """A time in UTC to the second."""
        value = self._get(name, default)
        wrong = datetime(1970, 1, 1, tzinfo=UTC)
        if not isinstance(value, str):
            return self._wrong(name, value, 'a time like "2026-11-01T00:00:00Z"', wrong)
        try:
            if not _INSTANT.fullmatch(value):
                raise ValueError(value)
            found = datetime.fromisoformat(value)
        except ValueError:
            advice = 'write it in UTC, like "2026-11-01T00:00:00Z"'
            self.note(name, f"{_shown(value)} is not a time; {advice}.")
            return wrong
        if full_hour and (found.minute or found.second):
            self.note(name, f"{_shown(value)} is not a full hour; prices change on full hours.")
        return found

    def words(
        self, name: str, pattern: re.Pattern[str], shape: str, *, default: object = ()
    ) -> tuple[str, ...]:
        """A list of texts of a fixed shape, each once."""
        found: list[str] = []
        for n, value in enumerate(self._list(name, default)):
            at = f"{name}[{n}]"
            if not isinstance(value, str):
                self._wrong(at, value, 'a text in "quotes"', "")
            elif not pattern.fullmatch(value):
                self.note(at, f"{_shown(value)} is not {shape}; correct it.")
            elif value in found:
                self.note(at, f"{_shown(value)} comes twice; remove one.")
            else:
                found.append(value)
        return tuple(found)

    def items(self, name: str, read: Callable[[Fields], _T]) -> tuple[_T, ...]:
        """A list of objects, each read by `read`."""
        values = self._list(name, ())
        return tuple(self._read(f"{name}[{n}]", value, read) for n, value in enumerate(values))

    def item(self, name: str, read: Callable[[Fields], _T]) -> _T:
        """One object."""
        if name not in self._values:
            self._wrong(name, self._get(name), "an object in {…}", None)
            return read(Fields({}, "", []))
        return self._read(name, self._get(name), read)

    def table(
        self, name: str, pattern: re.Pattern[str], shape: str, read: Callable[[Fields, str], _T]
    ) -> dict[str, _T]:
        """An object whose names are data of a fixed shape; `read` reads the one it is given."""
        value = self._get(name, {})
        rows = Fields(value, self._path(name), self._mistakes)
        found = {}
        for key in rows._values:
            if pattern.fullmatch(key):
                found[key] = read(rows, key)
            else:
                self.note(name, f"{_shown(key)} is not {shape}; correct it.")
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def has(self, name: str) -> bool:
        """Whether the field is there and not null. Null then reads as absent."""
        self._seen.add(name)
        return self._values.get(name) is not None

    def finish(self) -> None:
        """Note every field that nobody asked for."""
        for name in self._values:
            if name not in self._seen:
                known = sorted(self._seen)
                near = get_close_matches(name, known, n=1)
                advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."
                self.note("", f"has no field {_shown(name)}; {advice}")

    def _path(self, name: str) -> str:
        if not self._where or not name:
            return self._where or name
        return f"{self._where}.{name}"

    def _get(self, name: str, default: object = ...) -> object:
        self._seen.add(name)
        if name in self._values:
            return self._values[name]
        return _REQUIRED if default is ... else default

    def _list(self, name: str, default: object) -> Iterable[object]:
        value = self._get(name, default)
        if isinstance(value, list | tuple):
            return value
        return self._wrong(name, value, "a list in […]", ())

    def _read(self, name: str, value: object, read: Callable[[Fields], _T]) -> _T:
        fields = Fields(value, self._path(name), self._mistakes)
        if not fields.is_object:  # said already, by its constructor
            return read(Fields({}, "", []))
        found = read(fields)
        fields.finish()
        return found

    def _wrong(self, name: str, value: object, wanted: str, answer: _T) -> _T:
        if value is not _REQUIRED:
            self.note(name, f"must be {wanted}, not {_kind(value)}.")
        elif self.is_object:
            self.note(name, f"is missing; write {wanted}.")
        return answer


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the number {_cut(str(value))}"
        case str():
            return f"the text {_shown(value)}"
        case list():
            return "a list"
        case _:
            return "an object"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _shown(text: str) -> str:
    # Quoted and escaped, so that a mistake stays one line whatever was written.
    return json.dumps(_cut(text))


def _list(words: list[str], value: str) -> str:
    near = get_close_matches(value, words, n=1)
    return near[0] if near else f"one of {', '.join(words)}"
