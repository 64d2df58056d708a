"""Sums are of an account: a key that was in no table and then is has two of a kind, the suspense
account's and its tenant's.

On MySQL and MariaDB a stored column copies the table, and its new unique index is built from that:
about a minute for 10 million rows, during which nothing is counted (batches wait in the spools) and
the disk holds the table twice. Ordered by size: of hourly sums there are the most, and
`RELAY_KEEP_HOURLY_DAYS` bounds them. The old index goes before the new one comes, because no
database has two of a name; meanwhile nobody adds, as the table is locked or the jobs are stopped:
**stop the Celery workers first.** Sums that both accounts share already are put right by
`manage.py rebuild_rollups`; those by coin cannot be made again and stay where they are.

Back, sums of two accounts are added up as they were before, under the tenant.
"""

from django.db import migrations, models
from django.db.models import Count, Max, Sum
from django.db.models.functions import Coalesce

TABLES = (
    ("CoinRollup", "usage_coin_one_sum", ("day", "key", "channel", "coin", "zero_rated")),
    ("DailyRollup", "usage_daily_one_sum", ("day", "key", "metric", "channel", "zero_rated")),
    ("MonthlyRollup", "usage_monthly_one_sum", ("month", "key", "metric", "channel", "zero_rated")),
    ("UsageRollup", "usage_rollup_one_sum", ("hour", "key", "metric", "channel", "zero_rated")),
)


def number_of_tenant():
    number = models.BigIntegerField()
    return models.GeneratedField(
        expression=Coalesce("tenant", models.Value(0), output_field=number),
        output_field=number,
        db_persist=True,
    )


def one_sum(model, name, columns, with_account):
    fields = (*columns[:2], "account", *columns[2:]) if with_account else columns
    return migrations.AddConstraint(model, models.UniqueConstraint(fields=fields, name=name))


def add_up_accounts(apps, schema_editor):
    """One row where two accounts have one each."""
    for model, _, columns in TABLES:
        rows = apps.get_model("billing", model).objects
        units = ("messages", "bytes") if model == "CoinRollup" else ("units",)
        shared = (
            rows.order_by()
            .values(*columns)
            .annotate(
                rows=Count("pk"),
                owner=Max("tenant"),
                **{f"all_{name}": Sum(name) for name in units},
            )
            .filter(rows__gt=1)
        )
        for place in list(shared):
            of_it = rows.filter(**{column: place[column] for column in columns})
            kept = of_it.filter(tenant=place["owner"]).get()
            of_it.exclude(pk=kept.pk).delete()
            rows.filter(pk=kept.pk).update(**{name: place[f"all_{name}"] for name in units})


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [("billing", "0007_usage_detail")]

    operations = [
        operation
        for model, name, columns in TABLES
        for operation in (
            migrations.RemoveConstraint(model, name),
            migrations.AddField(model, "account", number_of_tenant()),
            one_sum(model, name, columns, with_account=True),
        )
    ] + [migrations.RunPython(migrations.RunPython.noop, add_up_accounts)]
