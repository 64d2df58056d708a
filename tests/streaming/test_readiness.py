"""Whether an edge says that it serves fresh data, by what its workers say."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.runtime import staleness_of


def node(silent_s: float | None, *, books: bool = True) -> dict[str, Any]:
    return {"kind": "node", "silent_s": silent_s, "books_ready": books}


def public(connections: int) -> dict[str, Any]:
    return {"kind": "public", "silent_s": None, "books_ready": True, "connections": connections}


@pytest.mark.parametrize(
    ("sources", "stands_in", "says"),
    [
        ([node(0.1)], False, None),
        ([node(9.0), node(0.1)], False, None),
        ([node(9.0), node(None)], False, "no node wrote a block for 2 s"),
        ([node(0.1, books=False)], False, "books wait for a checkpoint"),
        ([public(0)], False, None),  # nobody has subscribed
        ([node(9.0), public(1)], False, "no node wrote a block for 2 s"),
        ([node(9.0), public(1)], True, None),
        ([node(9.0, books=False), public(0)], True, "no node writes blocks, and no public feed"),
    ],
)
def test_staleness_is_told_by_its_cause(
    sources: list[dict[str, Any]], stands_in: bool, says: str | None
) -> None:
    worker = {
        "sources": {str(number): source for number, source in enumerate(sources)},
        "stands_in": stands_in,
    }
    told = staleness_of({"a": worker})
    assert told is None if says is None else says in str(told)


def test_without_a_worker() -> None:
    assert staleness_of({}) == "no upstream worker"


def test_a_worker_of_the_version_before_stands_in_for_nobody() -> None:
    assert staleness_of({"a": {"sources": {"n": node(0.1)}}}) is None
