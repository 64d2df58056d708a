"""What was counted before there was a ledger becomes its first entries, in opening batches: one for
each hour, of a worker whose name is all zeros. Nothing to do in a new database.
"""

from collections import Counter
from itertools import groupby

from django.db import migrations

OPENING_WORKER = "0" * 32
ROWS_PER_STATEMENT = 1_000


def open_accounts(apps, schema_editor):
    rollup = apps.get_model("billing", "UsageRollup")
    positions = Counter()
    # By hour first: rows are moved as they are read, one hour of all tenants at a time.
    rows = rollup.objects.filter(units__gt=0).order_by("hour", "tenant_id", "key_id", "pk")
    by_hour = groupby(rows.iterator(chunk_size=ROWS_PER_STATEMENT), key=lambda row: row.hour)
    for number, (hour, of_hour) in enumerate(by_hour, start=1):
        _post(apps, number, hour, list(of_hour), positions)
    account = apps.get_model("billing", "Account")
    for number, last_position in positions.items():
        account.objects.filter(number=number).update(last_position=last_position)
    _sum(apps, "DailyRollup", "day", lambda hour: hour.date())
    _sum(apps, "MonthlyRollup", "month", lambda hour: hour.date().replace(day=1))


def _post(apps, number, hour, rows, positions):
    totals = Counter()
    for row in rows:
        totals[row.metric] += row.units
    batch = apps.get_model("billing", "UsageBatch").objects.create(
        worker=OPENING_WORKER,
        flush_seq=number,
        hour=hour,
        line_count=0,
        message_total=totals["messages"],
        byte_total=totals["bytes"],
        request_total=totals["requests"],
        entry_count=len(rows),
    )
    entries = []
    entry, account = apps.get_model("billing", "LedgerEntry"), apps.get_model("billing", "Account")
    for row in rows:
        owner = row.tenant_id or 0
        if owner not in positions:
            account.objects.create(number=owner, tenant_id=row.tenant_id)
        positions[owner] += 1
        what = {
            name: getattr(row, name) for name in ("hour", "key_id", "metric", "channel", "units")
        }
        entries.append(
            entry(account_id=owner, position=positions[owner], batch_id=batch.pk, **what)
        )
    entry.objects.bulk_create(entries, batch_size=ROWS_PER_STATEMENT)


def _sum(apps, model, column, start_of):
    """The sums of one period at a time, from the hourly ones."""
    hourly, sums = apps.get_model("billing", "UsageRollup"), apps.get_model("billing", model)
    rows = hourly.objects.order_by("hour").iterator(chunk_size=ROWS_PER_STATEMENT)
    for start, of_period in groupby(rows, key=lambda row: start_of(row.hour)):
        units = Counter()
        for row in of_period:
            units[row.tenant_id, row.key_id, row.metric, row.channel] += row.units
        made = [
            sums(
                tenant_id=tenant_id,
                key_id=key_id,
                metric=metric,
                channel=channel,
                units=n,
                **{column: start},
            )
            for (tenant_id, key_id, metric, channel), n in units.items()
        ]
        sums.objects.bulk_create(made, batch_size=ROWS_PER_STATEMENT)


def close_accounts(apps, schema_editor):
    # The tables of the ledger go with 0002; the opening batches have to go from one that stays.
    alias = schema_editor.connection.alias
    for model in ("LedgerSeal", "LedgerEntry", "Account"):
        apps.get_model("billing", model).objects.all()._raw_delete(alias)
    batches = apps.get_model("billing", "UsageBatch").objects
    batches.filter(worker=OPENING_WORKER)._raw_delete(alias)


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_usage_ledger")]

    operations = [migrations.RunPython(open_accounts, close_accounts)]
