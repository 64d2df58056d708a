"""Batch → ledger entries, each with its place in its tenant's account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from billing.models import SUSPENSE, Account, LedgerEntry

#: At most ten parameters a row; SQLite's smallest common bound is 32,766 of them.
ROWS_PER_STATEMENT = 500


class Posting(NamedTuple):
    """What is counted in one sum. Sorting by it is the order in which rows are locked."""

    account: int
    hour: datetime
    key_id: int
    metric: str
    channel: str
    zero_rated: str


def post(batch_id: int, sums: Counter[Posting]) -> None:
    """Append an entry for each sum, as the batch with this row id told it. Inside a transaction,
    which holds the accounts until it ends, so positions follow the order of commits."""
    postings = sorted(sums.items())
    next_position = _take_positions(Counter(posting.account for posting, _ in postings))
    adapt = connection.ops.adapt_datetimefield_value
    rows = []
    for (account, hour, key_id, metric, channel, zero_rated), units in postings:
        position = next_position[account]
        next_position[account] += 1
        rows.append(
            (account, position, batch_id, adapt(hour), key_id, metric, channel, zero_rated, units)
        )
    # Not `bulk_create`, which on MariaDB would also ask for the ids back.
    columns = (
        *("account_id", "position", "batch_id", "hour", "key_id"),
        *("metric", "channel", "zero_rated", "units"),
    )
    insert_rows(LedgerEntry._meta.db_table, columns, rows)


def lock_accounts(numbers: Iterable[int]) -> None:
    """Hold accounts until the transaction ends, opening those that are missing."""
    _take_positions(Counter(dict.fromkeys(numbers, 0)))


def _take_positions(counts: Counter[int]) -> dict[int, int]:
    """Lock accounts, opening those that are missing, and answer the first of as many new positions
    as each is to get."""
    rows = [
        (number, None if number == SUSPENSE else number, count, 0)
        for number, count in sorted(counts.items())
    ]
    # One upsert that opens, locks and counts. An INSERT IGNORE before a SELECT FOR UPDATE would
    # leave two processes with a shared lock each, waiting for the other's.
    columns = ("number", "tenant_id", "last_position", "sealed_position")
    insert_rows(
        Account._meta.db_table, columns, rows, adding=("last_position",), unique=("number",)
    )
    last = dict(Account.objects.filter(pk__in=counts).values_list("pk", "last_position"))
    return {number: last[number] - count + 1 for number, count in counts.items()}


def insert_rows(
    table: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    adding: Sequence[str] = (),
    unique: Iterable[str] = (),
) -> None:
    """Insert rows; where `unique` is taken, add the row's values of the columns `adding` to the row
    that is there.

    In SQL, because Django's `bulk_create(update_conflicts=True)` can only replace a value, and
    read-add-write would need a lock on rows that do not exist yet. Sort the rows, so that two
    batches lock the rows they share in the same order.
    """
    quote = connection.ops.quote_name
    # Only names from the models' own metadata are put into the text.
    into = f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES "  # noqa: S608
    conflict, added = "", list(map(quote, adding))
    if adding and connection.vendor == "mysql":
        sums = (f"{column} = {column} + VALUES({column})" for column in added)
        conflict = f" ON DUPLICATE KEY UPDATE {', '.join(sums)}"
    elif adding:
        sums = (f"{column} = {quote(table)}.{column} + excluded.{column}" for column in added)
        conflict = f" ON CONFLICT ({', '.join(map(quote, unique))}) DO UPDATE SET {', '.join(sums)}"
    row_of = f"({', '.join(['%s'] * len(columns))})"
    with connection.cursor() as cursor:
        for start in range(0, len(rows), ROWS_PER_STATEMENT):
            chunk = rows[start : start + ROWS_PER_STATEMENT]
            values = ", ".join([row_of] * len(chunk))
            cursor.execute(into + values + conflict, [value for row in chunk for value in row])
