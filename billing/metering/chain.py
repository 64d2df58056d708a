"""The hash chain of an account: the bytes that are hashed, and the seals that hold the hashes.

A line is a JSON object with sorted keys, without spaces, in ASCII; an hour is
`2026-11-23T12:00:00Z`.

    entry   {"batch", "channel", "hour", "key", "metric", "position", "units", "v", "zero_rated"}
    seal    {"entries_sha256", "first_hour", "first_position", "hour", "last_hour", "last_position",
             "number", "previous_sha256", "tenant", "v"}

`v` is the version of the lines of a seal and its entries, 1 now; those of version 0 had no `v`.
A seal is of the version in which its line has its hash, so no column says it. A field that comes
later is a version more here, and seals made before stay what they are.

`entries_sha256` is the SHA-256 of the lines of the entries `first_position` to `last_position`,
each with a newline after it. The hash of a seal is that of its line without one, and the next seal
names it. Entries are hashed apart from the seal so that a chain can be followed without them.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from django.db import transaction
from django.db.models import Aggregate, Count, F, Max, OuterRef, Subquery
from django.db.models.functions import Coalesce

from billing.models import NO_SEAL, Account, LedgerEntry, LedgerSeal

#: What is sealed now.
VERSION = 1
#: Entries read at once.
_PAGE = 5_000
_DIGESTED = ("number", "first_position", "last_position", "entries_sha256", "previous_sha256")


def hour_text(hour: datetime) -> str:
    """`2026-11-23T12:00:00Z`."""
    return hour.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_line(value: dict[str, object]) -> str:
    """The one way in which `value` is written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _versioned(line: dict[str, object], version: int) -> str:
    return json_line({**line, "v": version} if version else line)


class Entry(NamedTuple):
    """An entry of the ledger as it is hashed."""

    position: int
    hour: datetime
    key_id: int
    metric: str
    channel: str
    zero_rated: str
    units: int
    worker: str
    flush_seq: int


_COLUMNS = (
    *("position", "hour", "key_id", "metric", "channel", "zero_rated", "units"),
    *("batch__worker", "batch__flush_seq"),
)


def entry_line(entry: Entry, version: int = VERSION) -> str:
    """The line of an entry as its seal's version has it: `json_line` of it, put together from parts
    that come again and again, because a month has millions."""
    position, hour, key_id, metric, channel, zero_rated, units, worker, flush_seq = entry
    of_version = f',"v":{version}' if version else ""
    return (
        f'{{"batch":{_text(f"{worker}-{flush_seq:010d}")},"channel":{_text(channel)},'
        f'"hour":{_text(_hour_text(hour))},"key":{key_id},"metric":{_text(metric)},'
        f'"position":{position},"units":{units}{of_version},"zero_rated":{_text(zero_rated)}}}'
    )


_text = lru_cache(4_096)(json.dumps)
_hour_text = lru_cache(4_096)(hour_text)


def seal_line(seal: LedgerSeal, version: int = VERSION) -> str:
    """The line of a seal, whose SHA-256 is the seal's."""
    hours = {name: hour_text(getattr(seal, name)) for name in ("hour", "first_hour", "last_hour")}
    line: dict[str, object] = {name: getattr(seal, name) for name in _DIGESTED}
    return _versioned({**line, **hours, "tenant": seal.account_id}, version)


def version_of(seal: LedgerSeal) -> int | None:
    """In which version a seal was made; None when its hash is in none that of what it says."""
    versions = range(VERSION, -1, -1)
    return next((v for v in versions if sha256(seal_line(seal, v)) == seal.sha256), None)


def sha256(line: str) -> str:
    """SHA-256 of a line, in hex."""
    return hashlib.sha256(line.encode("ascii")).hexdigest()


def entries_between(account: int, first: int, last: int) -> Iterator[Entry]:
    """An account's entries from position `first` to `last`, in order."""
    return Entries(account).between(first, last)


class Entries:
    """The entries of an account, read by the page, because MySQL's driver would hold a whole answer
    in memory. Who asks for one stretch after the other reads each page once. What has a position
    never changes, so pages fit together."""

    def __init__(self, account: int) -> None:
        self._account = account
        self._page: list[Entry] = []
        self._first, self._end = 0, 0

    def between(self, first: int, last: int) -> Iterator[Entry]:
        """Those from position `first` to `last`, in order."""
        while first <= last:
            if not self._first <= first < self._end and not self._read(first):
                return
            begin = bisect_left(self._page, first, key=_position)
            for place in range(begin, len(self._page)):
                entry = self._page[place]
                if entry.position > last:
                    return
                yield entry
            first = self._end

    def _read(self, first: int) -> bool:
        """Get the page that begins at a position; answers whether there is anything in it."""
        rows = LedgerEntry.objects.filter(account=self._account, position__gte=first)
        found = rows.order_by("position").values_list(*_COLUMNS)[:_PAGE]
        self._page = [Entry(*row) for row in found]
        self._first = first
        self._end = self._page[-1].position + 1 if self._page else first
        return bool(self._page)


def _position(entry: Entry) -> int:
    return entry.position


class Digest(NamedTuple):
    """What a seal says of its entries, under the names it has there."""

    first_position: int
    last_position: int
    first_hour: datetime
    last_hour: datetime
    entries_sha256: str


def digest(entries: Iterable[Entry], version: int = VERSION) -> Digest | None:
    """The digest of entries in order of position; None of none."""
    first, last, hours, sha = 0, 0, set(), hashlib.sha256()
    for entry in entries:
        first, last = first or entry.position, entry.position
        hours.add(entry.hour)
        sha.update(f"{entry_line(entry, version)}\n".encode("ascii"))
    if not hours:
        return None
    return Digest(first, last, min(hours), max(hours), sha.hexdigest())


def ended_hour(now: datetime) -> datetime:
    """The last UTC hour that has ended, by its beginning."""
    full = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return full - timedelta(hours=1)


def seal_ledger(hour: datetime) -> int:
    """Seal what was posted to any account until now, as the seals of `hour`. Answers how many were
    made.

    Once for an account and hour: who comes again, or at the same time, makes none. An account is a
    transaction of its own, so whoever is stopped leaves whole seals, and the next goes on. Hours
    come in any order: a clock that was ahead, or somebody who sealed early, stops nobody.
    """
    unsealed = Account.objects.filter(last_position__gt=F("sealed_position"))
    return sum(_seal(number, hour) for number in list(unsealed.values_list("pk", flat=True)))


def _seal(number: int, hour: datetime) -> bool:
    # Not in one transaction: hashing an hour of a large tenant takes minutes, and posting waits
    # for whoever holds the account. Entries up to a position that was seen are there for good.
    account, last = _heads(number)
    if account.seals.filter(hour=hour).exists():
        return False
    first_position = last.last_position + 1 if last else 1
    digested = digest(entries_between(number, first_position, account.last_position))
    if digested is None:
        return False
    seal = LedgerSeal(
        account=account,
        number=last.number + 1 if last else 1,
        hour=hour,
        previous_sha256=last.sha256 if last else NO_SEAL,
        **digested._asdict(),
    )
    seal.sha256 = sha256(seal_line(seal))
    return _link(seal)


@transaction.atomic
def _heads(number: int) -> tuple[Account, LedgerSeal | None]:
    """An account and its last seal, of one moment: nobody posts or seals meanwhile."""
    account = Account.objects.select_for_update().get(pk=number)
    return account, account.seals.order_by("number").last()


@transaction.atomic
def _link(seal: LedgerSeal) -> bool:
    """Put a seal at the end of its chain; False when another came there while it was hashed."""
    account, last = _heads(seal.account_id)
    if (last.sha256 if last else NO_SEAL) != seal.previous_sha256:
        return False
    seal.save(force_insert=True)
    account.sealed_position = seal.last_position
    account.save(update_fields=["sealed_position"])
    return True


class _Ends(NamedTuple):
    """What an account says of itself, and what it has."""

    last_position: int
    sealed_position: int
    entries: int
    last_entry: int
    last_seal: int
    last_sealed: int


def _ends(account: int) -> _Ends:
    """In one statement, which sees one moment, however much is posted and sealed meanwhile."""

    def of(model: type[LedgerEntry | LedgerSeal], what: Aggregate) -> Coalesce:
        rows = model._default_manager.filter(account=OuterRef("pk")).order_by().values("account")
        return Coalesce(Subquery(rows.annotate(found=what).values("found")), 0)

    rows = Account.objects.filter(pk=account).annotate(
        entries_held=of(LedgerEntry, Count("pk")),
        last_entry=of(LedgerEntry, Max("position")),
        last_seal=of(LedgerSeal, Max("number")),
        last_sealed=of(LedgerSeal, Max("last_position")),
    )
    return _Ends(
        *rows.values_list(
            *("last_position", "sealed_position"),
            *("entries_held", "last_entry", "last_seal", "last_sealed"),
        ).get()
    )


def faults(account: Account) -> Iterator[tuple[str, str]]:
    """Where the chain of an account does not hold, and what is wrong there. Nothing, when all is as
    it was sealed and no position is missing; what is posted or sealed from now on is not looked
    at."""
    ends = _ends(account.pk)
    number, position, previous = 0, 0, NO_SEAL
    held = Entries(account.pk)
    for seal in account.seals.filter(number__lte=ends.last_seal).order_by("number").iterator():
        where = f"seal {seal.number}"
        if seal.number != number + 1:
            yield where, f"the one before is {number}"
        if seal.first_position != position + 1:
            yield where, f"begins at position {seal.first_position} instead of {position + 1}"
        if seal.previous_sha256 != previous:
            yield where, "names another seal before it"
        version = version_of(seal)
        if version is None:
            yield where, "its hash is not that of what it says"
            version = VERSION
        found = digest(held.between(seal.first_position, seal.last_position), version)
        for name in Digest._fields:
            if getattr(found, name, None) != getattr(seal, name):
                yield where, f"{name} is {getattr(seal, name)}, its entries say otherwise"
        number, position, previous = seal.number, seal.last_position, seal.sha256
    if not ends.last_position == ends.entries == ends.last_entry:
        yield (
            f"position {ends.last_entry}",
            f"{ends.last_position} entries were posted, {ends.entries} are there",
        )
    if not position == ends.last_sealed == ends.sealed_position:
        yield f"seal {number}", f"ends at {position}; {ends.sealed_position} entries were sealed"
