"""Payment providers: customers, attempts to charge, money that went back, webhooks."""

from decimal import Decimal

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

#: What a provider calls a thing differs by case, and MariaDB's usual order of text does not.
NAMES = (
    ("billing_providercustomer", "reference", "NOT NULL"),
    ("billing_chargeattempt", "reference", "NULL"),
    ("billing_providerreturn", "reference", "NULL"),
    ("billing_providerevent", "event_id", "NOT NULL"),
)


def tell_cases_apart(apps, schema_editor):
    if schema_editor.connection.vendor != "mysql":
        return
    for table, column, null in NAMES:
        schema_editor.execute(
            f"ALTER TABLE {table} MODIFY {column} varchar(120)"
            f" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin {null}"
        )


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0008_rollups_by_account"),
        ("tenants", "0007_quota_warnings"),
    ]

    operations = [
        migrations.CreateModel(
            name="ChargeAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveSmallIntegerField(help_text="1, 2, 3 … of the invoice.")),
                ("provider", models.CharField(max_length=20)),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                ("currency", models.CharField(default="USD", max_length=3)),
                ("customer", models.CharField(max_length=120)),
                ("method", models.CharField(blank=True, max_length=120)),
                ("idempotency_key", models.CharField(max_length=64, unique=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("scheduled", "scheduled"),
                            ("unknown", "asked, outcome unknown"),
                            ("pending", "under way at the provider"),
                            ("held", "waits for an operator"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("requires_action", "the customer has to act"),
                            ("cancelled", "not needed any more"),
                        ],
                        default="scheduled",
                        max_length=16,
                    ),
                ),
                ("is_open", models.BooleanField(default=True, editable=False, null=True)),
                ("reference", models.CharField(blank=True, max_length=120, null=True)),
                ("failure_code", models.CharField(blank=True, max_length=60)),
                ("failure", models.CharField(blank=True, max_length=200)),
                (
                    "attempts",
                    models.PositiveIntegerField(
                        default=0, help_text="How often it was asked about."
                    ),
                ),
                (
                    "first_at",
                    models.DateTimeField(blank=True, help_text="Of the first request.", null=True),
                ),
                ("next_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "requested_by",
                    models.CharField(blank=True, help_text="Empty: the relay.", max_length=150),
                ),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="charge_attempts",
                        to="billing.invoice",
                    ),
                ),
                (
                    "payment",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="charge_attempt",
                        to="billing.payment",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="ProviderCustomer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider", models.CharField(max_length=20)),
                ("reference", models.CharField(max_length=120)),
                ("method", models.CharField(blank=True, max_length=120)),
                ("method_since", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="provider_customers",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["tenant", "provider"],
            },
        ),
        migrations.CreateModel(
            name="ProviderEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider", models.CharField(max_length=20)),
                ("event_id", models.CharField(max_length=120)),
                ("kind", models.CharField(max_length=80)),
                ("subject", models.CharField(blank=True, max_length=8)),
                ("reference", models.CharField(blank=True, max_length=120)),
                ("payload_sha256", models.CharField(max_length=64)),
                ("happened_at", models.DateTimeField(blank=True, null=True)),
                ("received_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("processed_at", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_at", models.DateTimeField(blank=True, null=True)),
                (
                    "error",
                    models.CharField(
                        blank=True, help_text="What an operator should see.", max_length=200
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["next_at"], name="provider_event_next")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "event_id"), name="provider_event_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ProviderReturn",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider", models.CharField(max_length=20)),
                (
                    "kind",
                    models.CharField(
                        choices=[("refund", "refund"), ("dispute", "dispute")], max_length=7
                    ),
                ),
                ("reference", models.CharField(blank=True, max_length=120, null=True)),
                (
                    "idempotency_key",
                    models.CharField(blank=True, max_length=64, null=True, unique=True),
                ),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("asked", "asked for, outcome unknown"),
                            ("pending", "under way at the provider"),
                            ("returned", "went back"),
                            ("undone", "came back, or never went"),
                            ("refused", "refused"),
                        ],
                        max_length=8,
                    ),
                ),
                ("booked_at", models.DateTimeField(blank=True, null=True)),
                ("undone_at", models.DateTimeField(blank=True, null=True)),
                (
                    "error",
                    models.CharField(blank=True, help_text="Why it is not booked.", max_length=200),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "requested_by",
                    models.CharField(blank=True, help_text="Empty: the provider.", max_length=150),
                ),
                (
                    "attempt",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="returns",
                        to="billing.chargeattempt",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.AddIndex(
            model_name="chargeattempt",
            index=models.Index(fields=["next_at"], name="charge_attempt_next"),
        ),
        migrations.AddConstraint(
            model_name="chargeattempt",
            constraint=models.UniqueConstraint(
                fields=("invoice", "number"), name="charge_attempt_one_number"
            ),
        ),
        migrations.AddConstraint(
            model_name="chargeattempt",
            constraint=models.UniqueConstraint(
                fields=("invoice", "is_open"), name="charge_attempt_one_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="chargeattempt",
            constraint=models.UniqueConstraint(
                fields=("provider", "reference"), name="charge_attempt_one_reference"
            ),
        ),
        migrations.AddConstraint(
            model_name="chargeattempt",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0)), name="charge_attempt_of_something"
            ),
        ),
        migrations.AddConstraint(
            model_name="chargeattempt",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("is_open", True),
                        ("is_open__isnull", False),
                        ("state__in", ["scheduled", "unknown", "pending", "held"]),
                    ),
                    models.Q(
                        ("is_open__isnull", True),
                        ("next_at__isnull", True),
                        ("state__in", ["succeeded", "failed", "requires_action", "cancelled"]),
                    ),
                    _connector="OR",
                ),
                name="charge_attempt_open_or_over",
            ),
        ),
        migrations.AddConstraint(
            model_name="chargeattempt",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "succeeded"), ("payment__isnull", False)),
                    models.Q(
                        models.Q(("state", "succeeded"), _negated=True), ("payment__isnull", True)
                    ),
                    _connector="OR",
                ),
                name="charge_attempt_paid_when_succeeded",
            ),
        ),
        migrations.AddConstraint(
            model_name="providercustomer",
            constraint=models.UniqueConstraint(
                fields=("tenant", "provider"), name="provider_customer_once_a_tenant"
            ),
        ),
        migrations.AddConstraint(
            model_name="providercustomer",
            constraint=models.UniqueConstraint(
                fields=("provider", "reference"), name="provider_customer_one_reference"
            ),
        ),
        migrations.AddConstraint(
            model_name="providercustomer",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("method", ""), ("method_since__isnull", True)),
                    models.Q(
                        models.Q(("method", ""), _negated=True), ("method_since__isnull", False)
                    ),
                    _connector="OR",
                ),
                name="provider_customer_method_since",
            ),
        ),
        migrations.AddConstraint(
            model_name="providerreturn",
            constraint=models.UniqueConstraint(
                fields=("provider", "reference"), name="provider_return_one_reference"
            ),
        ),
        migrations.AddConstraint(
            model_name="providerreturn",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0)), name="provider_return_of_something"
            ),
        ),
        # MariaDB commits at each statement of this kind anyway.
        migrations.RunPython(tell_cases_apart, migrations.RunPython.noop, atomic=False),
    ]
