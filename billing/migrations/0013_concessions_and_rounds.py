"""Rounds of dunning, what an invoice was settled with as it was finalized, payments told apart by
an id of the bank, and what operators gave away.

On SQLite altering a guarded table makes it anew, and other tables' triggers name it: so all go
before and come back after. Back it goes while nothing was given away, carried, or told apart by an id.
"""

from decimal import Decimal
from importlib import import_module

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from billing.migrations._refusing import refuse_loss

_guards = import_module("billing.migrations.0006_invoices")


def guard(apps, schema_editor):
    _guards.guard(apps, schema_editor)


def unguard(apps, schema_editor):
    _guards.unguard(apps, schema_editor)


def amount(**options):
    return models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20, **options)


def belongs_to(model, **options):
    return models.ForeignKey(
        on_delete=django.db.models.deletion.PROTECT,
        related_name="concessions",
        to=model,
        **options,
    )


KINDS = [
    ("credit", "credit note"),
    ("adjustment", "adjustment"),
    ("write_off", "write-off"),
    ("wallet", "prepaid credit"),
    ("refund", "refund"),
    ("provider_refund", "refund by the provider"),
]
STATES = [("waiting", "waits for approval"), ("given", "given"), ("rejected", "rejected")]
_text = models.CharField(max_length=120)


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [("billing", "0012_kinds_and_replacements")]

    operations = [
        migrations.RunPython(unguard, guard),
        migrations.AddField("invoice", "carried", amount()),
        migrations.AddConstraint(
            "invoice",
            models.CheckConstraint(
                condition=Q(carried=0)
                | Q(carried__gt=0, carried__lte=F("due"))
                | Q(carried__lt=0, carried__gte=F("due")),
                name="invoice_carried_of_due",
            ),
        ),
        migrations.AddField(
            "invoicestanding",
            "dunning_round",
            models.PositiveSmallIntegerField(default=0, help_text="How often it was open again."),
        ),
        migrations.AddField(
            "invoicestanding", "reopened_at", models.DateTimeField(blank=True, null=True)
        ),
        migrations.AddField(
            "payment",
            "external_id",
            models.CharField(
                blank=True,
                help_text="Where one reference is of several.",
                max_length=120,
                null=True,
            ),
        ),
        migrations.AddField(
            "payment",
            "identity",
            models.GeneratedField(
                db_persist=True,
                expression=Coalesce("external_id", "reference", output_field=_text),
                output_field=_text,
            ),
        ),
        migrations.RemoveConstraint("payment", "payment_one_reference"),
        migrations.AddConstraint(
            "payment",
            models.UniqueConstraint(fields=("method", "identity"), name="payment_one_identity"),
        ),
        migrations.AddConstraint(
            "payment",
            models.CheckConstraint(
                condition=Q(external_id__isnull=True) | ~Q(external_id=""),
                name="payment_external_id_of_something",
            ),
        ),
        migrations.CreateModel(
            name="Concession",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(choices=KINDS, max_length=16)),
                ("amount", amount(help_text="What is given away.")),
                (
                    "whole",
                    amount(help_text="What is booked; of a refund, also what was overpaid."),
                ),
                (
                    "subject",
                    models.CharField(
                        blank=True, help_text="Of a wallet: kind of entry.", max_length=80
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=300)),
                ("state", models.CharField(choices=STATES, default="waiting", max_length=8)),
                ("requested_by", models.CharField(blank=True, max_length=150)),
                ("requested_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("decided_by", models.CharField(blank=True, max_length=150)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("invoice", belongs_to("billing.invoice", blank=True, null=True)),
                ("payment", belongs_to("billing.payment", blank=True, null=True)),
                ("tenant", belongs_to("tenants.tenant")),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        fields=["tenant", "requested_by", "decided_at"],
                        name="concession_tenant_operator",
                    ),
                    models.Index(fields=["state"], name="concession_state"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(amount__gt=0, whole__gte=F("amount")),
                        name="concession_of_something",
                    ),
                    models.CheckConstraint(
                        condition=Q(state="waiting", decided_at__isnull=True, decided_by="")
                        | Q(state__in=["given", "rejected"], decided_at__isnull=False),
                        name="concession_decided_whole",
                    ),
                    models.CheckConstraint(
                        condition=~Q(state="given")
                        | Q(decided_by="")
                        | ~Q(decided_by=F("requested_by")),
                        name="concession_second_person",
                    ),
                ],
            },
        ),
        migrations.RunPython(guard, unguard),
        refuse_loss(
            "0013",
            (
                "Invoice",
                "with something carried over",
                lambda rows: rows.exclude(carried=0).count(),
            ),
            ("Concession", "what operators gave away", lambda rows: rows.count()),
            (
                "Payment",
                "with an external id",
                lambda rows: rows.exclude(external_id=None).count(),
            ),
        ),
    ]
