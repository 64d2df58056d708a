"""Invoices, what corrects them, and payments. The database refuses to change or delete a finalized
invoice, an issued credit note and their lines, a billed adjustment, and all that is append-only
around them; whoever asks.

What is said in 0004 of SQLite and of MySQL with a binary log is true here too.
"""

from decimal import Decimal

import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.db import migrations, models

APPEND_ONLY = (
    "billing_invoiceevent",
    "billing_invoicedocument",
    "billing_payment",
    "billing_paymentallocation",
    "billing_periodlock",
)
#: Tables with a state, and the states in which a row may still change.
DRAFTS = {
    "billing_invoice": ("draft",),
    "billing_creditnote": ("draft",),
    "billing_adjustment": ("proposed", "approved", "rejected"),
}
#: Tables of lines: the column and the table of what they belong to.
LINES = {
    "billing_invoiceline": ("invoice_id", "billing_invoice"),
    "billing_creditnoteline": ("credit_note_id", "billing_creditnote"),
}
REFUSAL = {
    "sqlite": "WHEN {when} BEGIN SELECT RAISE(ABORT, '{why}'); END",
    "mysql": "FOR EACH ROW IF {when} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{why}'; END IF",
}
ALWAYS = {
    "sqlite": "BEGIN SELECT RAISE(ABORT, '{why}'); END",
    "mysql": "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{why}'",
}


def triggers(vendor):
    """Name, act, table and body of each."""
    for table in APPEND_ONLY:
        for act in ("UPDATE", "DELETE"):
            yield f"{table}_no_{act.lower()}", act, table, ALWAYS[vendor].format(why="append-only")
    for table, states in DRAFTS.items():
        changing = ", ".join(f"'{state}'" for state in states)
        for act in ("UPDATE", "DELETE"):
            body = REFUSAL[vendor].format(when=f"OLD.state NOT IN ({changing})", why="final")
            yield f"{table}_no_{act.lower()}", act, table, body
        body = REFUSAL[vendor].format(when=f"NEW.state NOT IN ({changing})", why="not a draft")
        yield f"{table}_no_insert", "INSERT", table, body
    for table, (column, owner) in LINES.items():
        for act, rows in (
            ("INSERT", "NEW"),
            ("UPDATE", "OLD"),
            ("UPDATE", "NEW"),
            ("DELETE", "OLD"),
        ):
            when = f"(SELECT state FROM {owner} WHERE id = {rows}.{column}) <> 'draft'"  # noqa: S608
            body = REFUSAL[vendor].format(when=when, why="final")
            suffix = "_into" if (act, rows) == ("UPDATE", "NEW") else ""
            yield f"{table}_no_{act.lower()}{suffix}", act, table, body


def guard(apps, schema_editor):
    unguard(apps, schema_editor)  # what a run that was stopped half way left
    for name, act, table, body in triggers(schema_editor.connection.vendor):
        schema_editor.execute(f"CREATE TRIGGER {name} BEFORE {act} ON {table} {body}")


def unguard(apps, schema_editor):
    for name, *_ in triggers(schema_editor.connection.vendor):
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}")


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [
        ("billing", "0005_catalogue"),
        ("tenants", "0004_limits_and_allowances"),
    ]

    operations = [
        migrations.CreateModel(
            name="Invoice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("regular", "regular"), ("one_off", "one-off")],
                        default="regular",
                        max_length=8,
                    ),
                ),
                ("sequence", models.PositiveIntegerField(default=1)),
                (
                    "state",
                    models.CharField(
                        choices=[("draft", "draft"), ("finalized", "finalized")],
                        default="draft",
                        max_length=9,
                    ),
                ),
                ("period_start", models.DateTimeField()),
                ("period_end", models.DateTimeField()),
                (
                    "full_end",
                    models.DateTimeField(help_text="Where the full interval would have ended."),
                ),
                ("interval_unit", models.CharField(blank=True, max_length=8)),
                ("interval_every", models.PositiveIntegerField(default=1)),
                ("is_first_period", models.BooleanField(default=False)),
                (
                    "usage_from",
                    models.DateTimeField(
                        blank=True,
                        help_text="The first hour whose usage is of this period.",
                        null=True,
                    ),
                ),
                (
                    "usage_until",
                    models.DateTimeField(
                        blank=True, help_text="Up to before this hour.", null=True
                    ),
                ),
                ("number", models.CharField(blank=True, max_length=32, null=True, unique=True)),
                ("currency", models.CharField(default="USD", max_length=3)),
                ("seller", models.JSONField(default=dict)),
                ("buyer", models.JSONField(default=dict)),
                ("tax", models.JSONField(default=dict)),
                ("segments", models.JSONField(default=list)),
                (
                    "unmetered",
                    models.JSONField(default=list, help_text="Usage that nothing charges for."),
                ),
                (
                    "subtotal",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "tax_total",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "total",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "prepaid",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "due",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                ("ledger_position", models.BigIntegerField(default=0)),
                ("previous_position", models.BigIntegerField(default=0)),
                ("drafted_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("finalized_at", models.DateTimeField(blank=True, null=True)),
                ("due_at", models.DateTimeField(blank=True, null=True)),
                ("content_sha256", models.CharField(blank=True, max_length=64)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="invoices",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["-period_start", "-id"],
            },
        ),
        migrations.CreateModel(
            name="InvoiceCursor",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                ("closed_until", models.DateTimeField(blank=True, null=True)),
                ("finalized_until", models.DateTimeField(blank=True, null=True)),
                ("usage_until", models.DateTimeField(blank=True, null=True)),
                ("position", models.BigIntegerField(default=0)),
            ],
            options={
                "ordering": ["tenant"],
            },
        ),
        migrations.CreateModel(
            name="PeriodLock",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("until", models.DateTimeField()),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("actor", models.CharField(blank=True, max_length=150)),
                ("reason", models.CharField(blank=True, max_length=300)),
            ],
            options={
                "ordering": ["-until"],
            },
        ),
        migrations.CreateModel(
            name="CreditNote",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("draft", "waits for approval"),
                            ("issued", "issued"),
                            ("rejected", "rejected"),
                        ],
                        default="draft",
                        max_length=8,
                    ),
                ),
                ("number", models.CharField(blank=True, max_length=32, null=True, unique=True)),
                ("reason", models.CharField(max_length=300)),
                (
                    "voids",
                    models.BooleanField(
                        default=False, help_text="The whole invoice, as if never issued."
                    ),
                ),
                (
                    "subtotal",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "tax_total",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "total",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                ("requested_by", models.CharField(blank=True, max_length=150)),
                ("requested_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("approved_by", models.CharField(blank=True, max_length=150)),
                ("issued_at", models.DateTimeField(blank=True, null=True)),
                ("content_sha256", models.CharField(blank=True, max_length=64)),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credit_notes",
                        to="billing.invoice",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Adjustment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("sla_gap", "gap or stale window"),
                            ("one_off", "one-off charge"),
                            ("manual", "correction by hand"),
                        ],
                        max_length=8,
                    ),
                ),
                ("origin", models.CharField(blank=True, max_length=80, null=True)),
                ("code", models.CharField(max_length=40)),
                (
                    "name",
                    models.CharField(help_text="As it stands on the invoice.", max_length=200),
                ),
                (
                    "amount",
                    models.DecimalField(
                        decimal_places=2,
                        default=Decimal("0.00"),
                        help_text="Without tax; below 0 it is a credit.",
                        max_digits=20,
                    ),
                ),
                ("is_taxable", models.BooleanField(default=True)),
                ("original_start", models.DateTimeField(blank=True, null=True)),
                ("original_end", models.DateTimeField(blank=True, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("proposed", "proposed"),
                            ("approved", "approved"),
                            ("rejected", "rejected"),
                            ("billed", "billed"),
                        ],
                        default="proposed",
                        max_length=8,
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=300)),
                ("proposed_by", models.CharField(blank=True, max_length=150)),
                ("proposed_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("decided_by", models.CharField(blank=True, max_length=150)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="adjustments",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "billed_on",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="adjustments",
                        to="billing.invoice",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="InvoiceDocument",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "format",
                    models.CharField(choices=[("pdf", "PDF"), ("html", "HTML")], max_length=4),
                ),
                ("sha256", models.CharField(max_length=64)),
                ("body", models.BinaryField()),
                ("made_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "invoice",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="documents",
                        to="billing.invoice",
                    ),
                ),
            ],
            options={
                "ordering": ["invoice", "format"],
            },
        ),
        migrations.CreateModel(
            name="InvoiceEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("finalized", "finalized"),
                            ("sent", "sent"),
                            ("resent", "sent again"),
                            ("partially_paid", "partially paid"),
                            ("paid", "paid"),
                            ("reopened", "open again"),
                            ("credited", "credited"),
                            ("overdue", "overdue"),
                            ("reminded", "reminded"),
                            ("suspended", "tenant suspended"),
                            ("voided", "voided"),
                            ("written_off", "written off"),
                        ],
                        max_length=16,
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "actor",
                    models.CharField(
                        blank=True, help_text="Empty: the relay itself.", max_length=150
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=300)),
                ("once", models.CharField(blank=True, max_length=32, null=True)),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="billing.invoice",
                    ),
                ),
            ],
            options={
                "ordering": ["invoice", "id"],
            },
        ),
        migrations.CreateModel(
            name="InvoiceLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("place", models.PositiveIntegerField()),
                ("kind", models.CharField(max_length=16)),
                ("code", models.CharField(max_length=40)),
                ("name", models.CharField(max_length=200)),
                ("reason", models.CharField(blank=True, max_length=16)),
                ("quantity", models.DecimalField(decimal_places=4, max_digits=34)),
                ("unit", models.CharField(blank=True, max_length=16)),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "tax_percent",
                    models.DecimalField(decimal_places=4, default=Decimal("0"), max_digits=7),
                ),
                (
                    "tax",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                ("parts", models.JSONField(default=list)),
                ("sources", models.JSONField(default=list)),
                ("window_start", models.DateTimeField(blank=True, null=True)),
                ("window_end", models.DateTimeField(blank=True, null=True)),
                ("original_start", models.DateTimeField(blank=True, null=True)),
                ("original_end", models.DateTimeField(blank=True, null=True)),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="lines",
                        to="billing.invoice",
                    ),
                ),
            ],
            options={
                "ordering": ["invoice", "place"],
            },
        ),
        migrations.CreateModel(
            name="CreditNoteLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "tax_percent",
                    models.DecimalField(decimal_places=4, default=Decimal("0"), max_digits=7),
                ),
                (
                    "tax",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "credit_note",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="lines",
                        to="billing.creditnote",
                    ),
                ),
                (
                    "line",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credited",
                        to="billing.invoiceline",
                    ),
                ),
            ],
            options={
                "ordering": ["credit_note", "id"],
            },
        ),
        migrations.CreateModel(
            name="NumberSeries",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("prefix", models.CharField(max_length=12)),
                ("year", models.PositiveSmallIntegerField()),
                ("last", models.PositiveIntegerField(default=0)),
            ],
            options={
                "verbose_name_plural": "number series",
                "ordering": ["prefix", "-year"],
                "constraints": [
                    models.UniqueConstraint(fields=("prefix", "year"), name="number_series_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                (
                    "method",
                    models.CharField(
                        choices=[
                            ("bank_transfer", "bank transfer"),
                            ("usdc", "USDC"),
                            ("card", "card"),
                            ("other", "other"),
                        ],
                        max_length=13,
                    ),
                ),
                ("received_at", models.DateTimeField()),
                (
                    "reference",
                    models.CharField(
                        help_text="Of the bank, the chain, the provider.", max_length=120
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=300)),
                ("recorded_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("recorded_by", models.CharField(blank=True, max_length=150)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payments",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["-received_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="PaymentAllocation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("payment", "payment → invoice"),
                            ("release", "payment ← invoice"),
                            ("refund", "sent back"),
                            ("chargeback", "taken back by the bank"),
                            ("credit", "credit note → invoice"),
                            ("wallet", "invoice → wallet"),
                            ("carry", "invoice → invoice"),
                            ("write_off", "written off"),
                        ],
                        max_length=13,
                    ),
                ),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("actor", models.CharField(blank=True, max_length=150)),
                ("reason", models.CharField(blank=True, max_length=300)),
                (
                    "credit_note",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="allocations",
                        to="billing.creditnote",
                    ),
                ),
                (
                    "invoice",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="allocations",
                        to="billing.invoice",
                    ),
                ),
                (
                    "payment",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="allocations",
                        to="billing.payment",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Seller",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(
                        default=1, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=200, verbose_name="legal name")),
                (
                    "address",
                    models.TextField(
                        blank=True, help_text="As printed, line by line.", max_length=500
                    ),
                ),
                ("tax_id", models.CharField(blank=True, max_length=40, verbose_name="tax id")),
                (
                    "email",
                    models.EmailField(
                        blank=True,
                        help_text="Whom to ask about an invoice.",
                        max_length=254,
                        verbose_name="e-mail",
                    ),
                ),
                ("website", models.CharField(blank=True, max_length=200)),
                (
                    "payment_instructions",
                    models.TextField(
                        blank=True,
                        help_text="Bank account, USDC address: how to pay.",
                        max_length=2000,
                    ),
                ),
                ("footer", models.CharField(blank=True, max_length=300)),
                (
                    "color",
                    models.CharField(
                        default="#1f3a5f",
                        help_text="Of headings and rules: #rrggbb.",
                        max_length=7,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A#[0-9a-fA-F]{6}\\Z", "A colour like #1f3a5f."
                            )
                        ],
                    ),
                ),
                (
                    "logo",
                    models.TextField(
                        blank=True, editable=False, help_text="PNG or JPEG, in base64."
                    ),
                ),
                (
                    "net_days",
                    models.PositiveSmallIntegerField(
                        default=14,
                        validators=[django.core.validators.MaxValueValidator(365)],
                        verbose_name="days to pay",
                    ),
                ),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "verbose_name_plural": "seller",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="seller_one_row")
                ],
            },
        ),
        migrations.CreateModel(
            name="InvoiceStanding",
            fields=[
                (
                    "invoice",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="standing",
                        serialize=False,
                        to="billing.invoice",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "open"),
                            ("partially_paid", "partially paid"),
                            ("paid", "paid"),
                            ("in_favour", "in the customer's favour"),
                            ("voided", "void"),
                            ("written_off", "written off"),
                        ],
                        default="open",
                        max_length=14,
                    ),
                ),
                (
                    "balance",
                    models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
                ),
                ("due_at", models.DateTimeField()),
                ("is_overdue", models.BooleanField(default=False)),
                (
                    "dunning_step",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="Steps of the schedule taken.",
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                ("sending_since", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-due_at"],
                "indexes": [
                    models.Index(fields=["state", "due_at"], name="invoice_standing_state_due"),
                    models.Index(fields=["is_overdue", "due_at"], name="invoice_standing_overdue"),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="invoice",
            index=models.Index(fields=["state", "period_end"], name="invoice_state_end"),
        ),
        migrations.AddIndex(
            model_name="invoice",
            index=models.Index(
                fields=["tenant", "state", "period_end"], name="invoice_tenant_state_end"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.UniqueConstraint(
                fields=("tenant", "period_start", "kind", "sequence"), name="invoice_once_a_period"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["regular", "one_off"])), name="invoice_kind_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("content_sha256", ""),
                        ("due_at__isnull", True),
                        ("finalized_at__isnull", True),
                        ("number__isnull", True),
                        ("state", "draft"),
                    ),
                    models.Q(
                        ("due_at__isnull", False),
                        ("finalized_at__isnull", False),
                        ("number__isnull", False),
                        ("state", "finalized"),
                        models.Q(("content_sha256", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="invoice_finalized_whole",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "total__gt",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("subtotal"), "+", models.F("tax_total")
                            ),
                            "+",
                            models.Value(Decimal("-0.005")),
                        ),
                    ),
                    (
                        "total__lt",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("subtotal"), "+", models.F("tax_total")
                            ),
                            "+",
                            models.Value(Decimal("0.005")),
                        ),
                    ),
                    (
                        "total__gt",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("due"), "+", models.F("prepaid")
                            ),
                            "+",
                            models.Value(Decimal("-0.005")),
                        ),
                    ),
                    (
                        "total__lt",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("due"), "+", models.F("prepaid")
                            ),
                            "+",
                            models.Value(Decimal("0.005")),
                        ),
                    ),
                    ("prepaid__gte", 0),
                ),
                name="invoice_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(("period_end__gte", models.F("period_start"))),
                name="invoice_period_not_reversed",
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnote",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("number__isnull", True), ("state__in", ["draft", "rejected"])),
                    models.Q(
                        ("issued_at__isnull", False),
                        ("number__isnull", False),
                        ("state", "issued"),
                        models.Q(("content_sha256", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="credit_note_issued_whole",
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnote",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "total__gt",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("subtotal"), "+", models.F("tax_total")
                            ),
                            "+",
                            models.Value(Decimal("-0.005")),
                        ),
                    ),
                    (
                        "total__lt",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("subtotal"), "+", models.F("tax_total")
                            ),
                            "+",
                            models.Value(Decimal("0.005")),
                        ),
                    ),
                    ("total__gt", 0),
                ),
                name="credit_note_adds_up",
            ),
        ),
        migrations.AddIndex(
            model_name="adjustment",
            index=models.Index(fields=["tenant", "state"], name="adjustment_tenant_state"),
        ),
        migrations.AddConstraint(
            model_name="adjustment",
            constraint=models.UniqueConstraint(
                fields=("tenant", "origin"), name="adjustment_one_of_an_origin"
            ),
        ),
        migrations.AddConstraint(
            model_name="adjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount", 0), _negated=True), name="adjustment_of_something"
            ),
        ),
        migrations.AddConstraint(
            model_name="adjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("billed_on__isnull", True),
                        ("state__in", ["proposed", "approved", "rejected"]),
                    ),
                    models.Q(("billed_on__isnull", False), ("state", "billed")),
                    _connector="OR",
                ),
                name="adjustment_billed_on_an_invoice",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoicedocument",
            constraint=models.UniqueConstraint(
                fields=("invoice", "format"), name="invoice_document_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceevent",
            constraint=models.UniqueConstraint(
                fields=("invoice", "once"), name="invoice_event_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(
                fields=("invoice", "place"), name="invoice_line_one_place"
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnoteline",
            constraint=models.UniqueConstraint(
                fields=("credit_note", "line"), name="credit_note_line_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                fields=("method", "reference"), name="payment_one_reference"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0)), name="payment_of_something"
            ),
        ),
        migrations.AddConstraint(
            model_name="paymentallocation",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount", 0), _negated=True), name="allocation_of_something"
            ),
        ),
        migrations.AddConstraint(
            model_name="paymentallocation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("payment__isnull", False), ("invoice__isnull", False), _connector="OR"
                ),
                name="allocation_has_an_end",
            ),
        ),
        migrations.RunPython(guard, unguard),
    ]
