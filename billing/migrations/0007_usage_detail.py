"""Usage in detail: the region of a batch, messages by coin, minutes by coin.

What was used before is of coins nobody noted: its days become rollups of the coin `other`, so that
these add up to the daily ones from the first day on.
"""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

_guards = import_module("billing.migrations.0004_guard_the_ledger")


def guard(apps, schema_editor):
    """On SQLite a table that gets a column is made anew, without its triggers."""
    _guards.guard(apps, schema_editor)


def unguard(apps, schema_editor):
    _guards.unguard(apps, schema_editor)


def tell_cases_apart(apps, schema_editor):
    """Names of coins differ by case (`kPEPE`), and MariaDB's usual order of text does not."""
    if schema_editor.connection.vendor != "mysql":
        return
    for table in ("billing_coinrollup", "billing_coinhour"):
        schema_editor.execute(
            f"ALTER TABLE {table} MODIFY coin varchar(16)"
            " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
        )


def begin_with_the_days(apps, schema_editor):
    units = "SUM(CASE WHEN metric = '{}' THEN units ELSE 0 END)"
    schema_editor.execute(
        "INSERT INTO billing_coinrollup"  # noqa: S608
        " (tenant_id, key_id, day, channel, coin, zero_rated, messages, bytes)"
        f" SELECT MAX(tenant_id), key_id, day, channel, 'other', zero_rated,"
        f" {units.format('messages')}, {units.format('bytes')} FROM billing_dailyrollup"
        " WHERE metric IN ('messages', 'bytes') GROUP BY key_id, day, channel, zero_rated"
    )


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [
        ("billing", "0006_invoices"),
        ("tenants", "0004_limits_and_allowances"),
    ]

    operations = [
        migrations.RunPython(unguard, guard),
        migrations.AddField(
            model_name="usagebatch",
            name="region",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Where it was delivered; empty: not told.",
                max_length=32,
            ),
        ),
        migrations.AlterField(
            model_name="dailyrollup",
            name="zero_rated",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Why it is free of charge; empty for what is charged.",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="ledgerentry",
            name="zero_rated",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Why it is free of charge; empty for what is charged.",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="monthlyrollup",
            name="zero_rated",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Why it is free of charge; empty for what is charged.",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="usagerollup",
            name="zero_rated",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Why it is free of charge; empty for what is charged.",
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="CoinHour",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("coin", models.CharField(max_length=16)),
                ("hour", models.DateTimeField()),
                ("minutes", models.BigIntegerField()),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.apikey",
                    ),
                ),
            ],
            options={
                "ordering": ["-hour", "key_id", "coin"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("hour", "key", "coin"), name="usage_coin_hour_one"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("minutes__gte", 0), ("minutes__lt", 1152921504606846976)
                        ),
                        name="usage_coin_hour_of_sixty",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CoinRollup",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("channel", models.CharField(max_length=32)),
                ("coin", models.CharField(blank=True, default="", max_length=16)),
                (
                    "zero_rated",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Why it is free of charge; empty for what is charged.",
                        max_length=16,
                    ),
                ),
                ("messages", models.BigIntegerField()),
                ("bytes", models.BigIntegerField()),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.apikey",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["-day", "key_id", "channel", "coin"],
                "indexes": [models.Index(fields=["tenant", "day"], name="usage_coin_tenant_day")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("day", "key", "channel", "coin", "zero_rated"),
                        name="usage_coin_one_sum",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("bytes__gte", 0), ("messages__gte", 0)),
                        name="usage_coin_not_negative",
                    ),
                ],
            },
        ),
        migrations.RunPython(guard, unguard),
        migrations.RunPython(tell_cases_apart, migrations.RunPython.noop),
        migrations.RunPython(begin_with_the_days, migrations.RunPython.noop),
    ]
