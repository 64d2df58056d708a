"""Migrations walked back and forth once for several laws: each step of a walk takes 0.3 to 1 s of a
core, for the states of the models that Django renders between its operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

#: Fills the database of now, and yields the migration, `(app, name)`, that it wants to go back to;
#: looks, or writes, there, and yields; looks at the database of now again, and ends.
Law = Iterator[tuple[str, str] | None]


def walk(*laws: Law) -> None:
    """Lead all of them back, each at least as far as the one before, and forth together."""
    newest: Any = MigrationExecutor(connection).loader.graph.leaf_nodes()
    stops: list[Any] = [next(law) for law in laws]
    try:
        for law, stop in zip(laws, stops, strict=True):
            MigrationExecutor(connection).migrate([stop])
            next(law)
    finally:
        MigrationExecutor(connection).migrate(newest)
    for law in laws:
        assert next(law, "ended") == "ended"


def state_of(*at: str) -> Any:
    """The models as they were, for who writes what was written then."""
    return MigrationExecutor(connection).loader.project_state(at).apps  # type: ignore[arg-type]
