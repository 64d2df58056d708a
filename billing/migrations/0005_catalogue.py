"""What is sold and to whom. Its append-only tables are guarded as those of 0004 are."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

TABLES = (
    "billing_planversion",
    "billing_addonversion",
    "billing_billingchoice",
    "billing_billinganchor",
    "billing_walletentry",
)
REFUSAL = {
    "sqlite": "BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "mysql": "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'append-only'",
}


def guard(apps, schema_editor):
    refusal = REFUSAL[schema_editor.connection.vendor]
    unguard(apps, schema_editor)  # what a run that was stopped half way left
    for table in TABLES:
        for act in ("UPDATE", "DELETE"):
            schema_editor.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} {refusal}"
            )


def unguard(apps, schema_editor):
    for table in TABLES:
        for act in ("update", "delete"):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{act}")


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [
        ("billing", "0004_guard_the_ledger"),
        ("tenants", "0004_limits_and_allowances"),
    ]

    operations = [
        migrations.CreateModel(
            name="AddOn",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("code", models.SlugField(max_length=40, unique=True)),
                ("name", models.CharField(max_length=80)),
                ("is_active", models.BooleanField(default=True, help_text="Offered.")),
            ],
            options={
                "verbose_name": "add-on",
                "ordering": ["code"],
            },
        ),
        migrations.AlterField(
            model_name="dailyrollup",
            name="metric",
            field=models.CharField(
                choices=[
                    ("messages", "messages"),
                    ("bytes", "bytes"),
                    ("requests", "requests"),
                    ("coin_minutes", "coin-minutes"),
                    ("archive_bytes", "bytes of archive"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="ledgerentry",
            name="metric",
            field=models.CharField(
                choices=[
                    ("messages", "messages"),
                    ("bytes", "bytes"),
                    ("requests", "requests"),
                    ("coin_minutes", "coin-minutes"),
                    ("archive_bytes", "bytes of archive"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="monthlyrollup",
            name="metric",
            field=models.CharField(
                choices=[
                    ("messages", "messages"),
                    ("bytes", "bytes"),
                    ("requests", "requests"),
                    ("coin_minutes", "coin-minutes"),
                    ("archive_bytes", "bytes of archive"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="usagerollup",
            name="metric",
            field=models.CharField(
                choices=[
                    ("messages", "messages"),
                    ("bytes", "bytes"),
                    ("requests", "requests"),
                    ("coin_minutes", "coin-minutes"),
                    ("archive_bytes", "bytes of archive"),
                ],
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="AppliedTerms",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                ("applied_at", models.DateTimeField()),
                ("next_change_at", models.DateTimeField(db_index=True, null=True)),
                (
                    "subscription",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.plansubscription",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "applied terms",
            },
        ),
        migrations.CreateModel(
            name="Wallet",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="wallet",
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                (
                    "balance",
                    models.DecimalField(decimal_places=2, default=0, editable=False, max_digits=20),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("balance__gte", 0)), name="wallet_never_below_zero"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="AddOnSubscription",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", models.PositiveIntegerField()),
                ("quantity", models.PositiveIntegerField(default=1)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "add_on",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="subscriptions",
                        to="billing.addon",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="add_ons",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "add-on subscription",
                "ordering": ["tenant", "-started_at", "-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("quantity__gte", 1)), name="add_on_at_least_one"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ended_at__isnull", True),
                            ("ended_at__gte", models.F("started_at")),
                            _connector="OR",
                        ),
                        name="add_on_ends_after_start",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AddOnVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", models.PositiveIntegerField()),
                ("effective_from", models.DateTimeField(help_text="When it may first be bought.")),
                ("document", models.TextField(help_text="As docs/prices.md describes it.")),
                ("published_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("published_by", models.CharField(blank=True, max_length=150)),
                ("note", models.CharField(blank=True, max_length=200)),
                (
                    "add_on",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="versions",
                        to="billing.addon",
                    ),
                ),
            ],
            options={
                "verbose_name": "add-on version",
                "ordering": ["add_on", "-version"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("add_on", "version"), name="add_on_version_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="add_on_version_from_one"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BillingAnchor",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                (
                    "unit",
                    models.CharField(
                        choices=[("month", "month"), ("year", "year"), ("day", "day")], max_length=5
                    ),
                ),
                ("every", models.PositiveSmallIntegerField(default=1)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="billing_anchors",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["tenant", "id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("every__gte", 1)), name="billing_anchor_every_one"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unit__in", ["month", "year", "day"])),
                        name="billing_anchor_unit",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BillingChoice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("since", models.DateTimeField()),
                ("overage", models.BooleanField(default=False)),
                (
                    "spend_cap",
                    models.DecimalField(
                        blank=True,
                        decimal_places=2,
                        help_text="US dollars a period, before tax.",
                        max_digits=20,
                        null=True,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="billing_choices",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["tenant", "id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("spend_cap__isnull", True),
                            models.Q(("spend_cap__gte", 0), ("spend_cap__isnull", False)),
                            _connector="OR",
                        ),
                        name="billing_choice_cap_not_negative",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DiscountGrant",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("document", models.TextField(help_text="As docs/prices.md describes it.")),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="discounts",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "discount",
                "ordering": ["tenant", "id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_at__isnull", True),
                            ("ends_at__gte", models.F("starts_at")),
                            _connector="OR",
                        ),
                        name="discount_ends_after_start",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OwnTerms",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("document", models.TextField(help_text="As docs/prices.md describes it.")),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.plan",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="own_terms",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "own terms",
                "ordering": ["tenant", "-starts_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_at__isnull", True),
                            ("ends_at__gte", models.F("starts_at")),
                            _connector="OR",
                        ),
                        name="own_terms_end_after_start",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PlannedChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", models.PositiveIntegerField(blank=True, null=True)),
                ("at", models.DateTimeField()),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                ("done_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("is_pending", models.BooleanField(default=True, editable=False, null=True)),
                (
                    "plan",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.plan",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="planned_changes",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["tenant", "-id"],
                "indexes": [models.Index(fields=["is_pending", "at"], name="planned_change_due")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "is_pending"), name="planned_change_one_pending"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("done_at__isnull", True),
                                ("is_pending", True),
                                ("is_pending__isnull", False),
                            ),
                            models.Q(("done_at__isnull", False), ("is_pending__isnull", True)),
                            _connector="OR",
                        ),
                        name="planned_change_pending_or_done",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("plan__isnull", True), ("version__isnull", True)),
                            models.Q(("plan__isnull", False), ("version__isnull", False)),
                            _connector="OR",
                        ),
                        name="planned_change_names_version",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PlanVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", models.PositiveIntegerField()),
                (
                    "effective_from",
                    models.DateTimeField(help_text="When it may first be subscribed to."),
                ),
                ("document", models.TextField(help_text="As docs/prices.md describes it.")),
                ("published_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("published_by", models.CharField(blank=True, max_length=150)),
                ("note", models.CharField(blank=True, max_length=200)),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="versions",
                        to="tenants.plan",
                    ),
                ),
            ],
            options={
                "ordering": ["plan", "-version"],
                "constraints": [
                    models.UniqueConstraint(fields=("plan", "version"), name="plan_version_once"),
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="plan_version_from_one"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="WalletEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("amount", models.DecimalField(decimal_places=2, max_digits=20)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("top_up", "top-up"),
                            ("spend", "spend"),
                            ("refund", "refund"),
                            ("expiry", "expiry"),
                            ("adjustment", "adjustment"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "reference",
                    models.CharField(
                        blank=True, help_text="Invoice, payment, ticket.", max_length=100
                    ),
                ),
                ("balance", models.DecimalField(decimal_places=2, editable=False, max_digits=20)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                ("created_by", models.CharField(blank=True, editable=False, max_length=150)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="wallet_entries",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "wallet entries",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["tenant", "-id"], name="wallet_entry_newest")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("balance__gte", 0)), name="wallet_entry_balance"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("amount__gt", 0), ("kind", "top_up")),
                            models.Q(("amount__lt", 0), ("kind__in", ["spend", "expiry"])),
                            models.Q(
                                ("kind__in", ["refund", "adjustment"]),
                                models.Q(("amount", 0), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="wallet_entry_sign_of_kind",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="TenantTerms",
            fields=[],
            options={
                "verbose_name": "terms of a tenant",
                "verbose_name_plural": "terms of tenants",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("tenants.tenant",),
        ),
        migrations.RunPython(guard, unguard),
    ]
