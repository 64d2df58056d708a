"""What workers say of their sources → which feeds and upstreams are fresh. Pure.

A feed is what customers follow, an upstream where it comes from. A feed is fresh when one source
that is well writes all the node files it is made of, or, where no node does, when a public
connection is well: customers get the first copy, so one that is well is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: By feed: the node files it is made of.
FEEDS: Mapping[str, frozenset[str]] = {
    "books": frozenset({"node_raw_book_diffs", "node_order_statuses"}),
    "trades": frozenset({"node_fills"}),
    "orders": frozenset({"node_order_statuses"}),
    "accounts": frozenset({"misc_events"}),
}
#: Marks with which nothing fresh comes from a source. One that lags or disagrees is read on.
DOWN = frozenset(
    {"not connected", "stalled", "not answered", "quarantined", "no books yet", "no names yet"}
)
FEED, UPSTREAM = "feed:", "upstream:"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one subject. `age_ms` is of the newest block, None where nobody knows it."""

    is_fresh: bool
    age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A source as one worker sees it: `files` are the node files that it writes, `stopped` those
    of them that have stopped though others go on."""

    name: str
    is_public: bool
    is_well: bool
    age_ms: int | None
    files: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()
    has_books: bool = True


def looks_of(seen: Iterable[Seen], known: Iterable[str] = ()) -> dict[str, Look]:
    """A look at each feed and upstream. Where no source is seen at all, at each of `known`, none of
    which is fresh then."""
    sources = list(seen)
    if not sources:
        return {subject: Look(is_fresh=False) for subject in known}
    found = {f"{FEED}{feed}": look for feed in FEEDS if (look := _feed(feed, sources))}
    for name in {source.name for source in sources}:
        found[f"{UPSTREAM}{name}"] = _best(each for each in sources if each.name == name)
    return found


def _feed(feed: str, sources: list[Seen]) -> Look | None:
    """None where no source there is could bring it."""
    wanted = FEEDS[feed]
    nodes = [s for s in sources if not s.is_public and wanted <= s.files]
    publics = [s for s in sources if s.is_public]
    well = [
        s
        for s in nodes
        if s.is_well and not wanted & s.stopped and (s.has_books or feed != "books")
    ]
    if well or not nodes:
        return _best(well or publics) if well or publics else None
    return _best(publics)


def _best(sources: Iterable[Seen]) -> Look:
    """Of several views of one thing, the freshest."""
    all_of_it = list(sources)
    well = [s for s in all_of_it if s.is_well]
    ages = [s.age_ms for s in well if s.age_ms is not None]
    return Look(is_fresh=bool(well), age_ms=min(ages, default=None))


def files_of(state: Mapping[str, Any]) -> frozenset[str]:
    """The node files that a worker's state of a source knows of."""
    gateway = state.get("gateway")
    kinds = (gateway if isinstance(gateway, Mapping) else state).get("kinds")
    if not isinstance(kinds, Mapping):
        return frozenset()
    return frozenset(
        str(kind) for kind, its in kinds.items() if isinstance(its, Mapping) and its.get("height")
    )


def stopped_of(marks: Iterable[str]) -> frozenset[str]:
    """The node files that a source's marks say have stopped."""
    return frozenset(m.removeprefix("stopped ") for m in marks if m.startswith("stopped "))
