"""Append-only tables between tests: what the software may never do, emptying them, is how Django
ends a test that commits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.backends.base.operations import BaseDatabaseOperations


def triggers() -> dict[str, str]:
    """The statement that makes each trigger of the test database."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute(
                "SELECT trigger_name, CONCAT('CREATE TRIGGER ', trigger_name, ' ', action_timing, "
                "' ', event_manipulation, ' ON ', event_object_table, ' FOR EACH ROW ', "
                "action_statement) FROM information_schema.triggers "
                "WHERE trigger_schema = DATABASE()"
            )
        return dict(cursor.fetchall())


@contextmanager
def lifted() -> Iterator[None]:
    """No triggers meanwhile."""
    kept = triggers()
    with connection.cursor() as cursor:
        for name in kept:
            cursor.execute(f"DROP TRIGGER {name}")
        try:
            yield
        finally:
            for statement in kept.values():
                cursor.execute(statement)


def lift_for_flushes() -> None:
    """From now on `flush`, with which a test that commits ends, may empty guarded tables."""
    flush = BaseDatabaseOperations.execute_sql_flush

    def execute_sql_flush(self: Any, sql_list: list[str]) -> None:
        with lifted():
            flush(self, sql_list)

    BaseDatabaseOperations.execute_sql_flush = execute_sql_flush  # type: ignore[method-assign]
