"""What a customer paid for each line after discounts; credit notes with parties and documents of
their own; logos kept once by their hash; the times that service credits are for.

`net` was known when an invoice was rated and not kept. It is found again from the lines: see
`nets_of`. Copies of the seller in invoices name their logo by its hash from now on, and get it back
when this is reversed; the hash of an invoice's content is that of before (`frozen.is_hash_of`). Back it
goes while no credit note was issued since.
"""

import base64
import hashlib
from decimal import ROUND_HALF_UP, Decimal
from importlib import import_module

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models, transaction

from billing.migrations._refusing import refuse_loss

_guards = import_module("billing.migrations.0006_invoices")
ASSETS = "billing_brandasset"
#: Invoices that are read at once: each may hold 200 kB.
PAGE = 100
CENT = Decimal("0.01")


def guard(apps, schema_editor):
    """On SQLite a table that gets a column is made anew, without its triggers."""
    _guards.guard(apps, schema_editor)
    refusal = _guards.ALWAYS[schema_editor.connection.vendor].format(why="append-only")
    for act in ("UPDATE", "DELETE"):
        schema_editor.execute(
            f"CREATE TRIGGER {ASSETS}_no_{act.lower()} BEFORE {act} ON {ASSETS} {refusal}"
        )


def unguard(apps, schema_editor):
    _guards.unguard(apps, schema_editor)
    for act in ("update", "delete"):
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {ASSETS}_no_{act}")


def guard_as_before(apps, schema_editor):
    _guards.guard(apps, schema_editor)


def unguard_as_before(apps, schema_editor):
    _guards.unguard(apps, schema_editor)


# --- what was paid for each line --------------------------------------------------------------


def nets_of(lines):
    """What discounts left of each line. `lines` are (kind, code, amount, tax percent, tax, parts)
    in their order.

    A discount takes from the lines it applies to, in order. Which these were is told by its base:
    the sum of what was left of them. Where several would do, the taxes decide.
    """
    left = [amount if kind != "discount" else Decimal("0.00") for kind, _, amount, *_ in lines]
    states = [left]
    for kind, _, amount, _, _, parts in lines:
        if kind != "discount":
            continue
        base = Decimal(parts[0]["base"]) if parts else None
        found = []
        for state in states:
            choices = [p for p in _targets(lines) if sum(state[n] for n in p) == base]
            for places in choices or _targets(lines)[:1]:
                after = _taken(state, places, -amount)
                if after not in found:
                    found.append(after)
        states = found[:64]
    return max(states, key=lambda state: _fitting(lines, state))


def _targets(lines):
    """The places of the lines that a discount may be for: all, of a kind, of a kind and code."""
    charges = [
        (n, kind, code)
        for n, (kind, code, *_) in enumerate(lines)
        if kind not in {"discount", "adjustment"}
    ]
    targets = [[n for n, *_ in charges]]
    for wanted in dict.fromkeys(kind for _, kind, _ in charges):
        targets.append([n for n, kind, _ in charges if kind == wanted])
    for wanted in dict.fromkeys((kind, code) for _, kind, code in charges):
        targets.append([n for n, kind, code in charges if (kind, code) == wanted])
    return targets


def _taken(state, places, off):
    after = list(state)
    for n in places:
        part = min(off, after[n])
        after[n] -= part
        off -= part
    return after


def _fitting(lines, state):
    """How many taxes are those of what is left of their lines."""
    return sum(
        (net * percent / 100).quantize(CENT, ROUND_HALF_UP) == tax
        for net, (_, _, _, percent, tax, _) in zip(state, lines, strict=True)
    )


def find_nets(apps, schema_editor):
    line = apps.get_model("billing", "InvoiceLine")
    line.objects.exclude(kind="discount").update(net=models.F("amount"))
    discounted = line.objects.filter(kind="discount").values_list("invoice", flat=True)
    read = ("kind", "code", "amount", "tax_percent", "tax", "parts")
    for invoice in list(discounted.order_by("invoice").distinct()):
        rows = line.objects.filter(invoice=invoice).order_by("place")
        ids, lines = [], []
        for pk, *values in rows.values_list("pk", *read):
            ids.append(pk)
            lines.append(tuple(values))
        with transaction.atomic():
            for pk, net, values in zip(ids, nets_of(lines), lines, strict=True):
                if values[0] != "discount" and net != values[2]:
                    line.objects.filter(pk=pk).update(net=net)


# --- logos ------------------------------------------------------------------------------------


def _pages(model, *fields):
    last = 0
    while rows := list(
        model.objects.filter(pk__gt=last).order_by("pk").values_list(*fields)[:PAGE]
    ):
        yield from rows
        last = rows[-1][0]


def keep_logos(apps, schema_editor):
    asset, invoice, seller = (
        apps.get_model("billing", name) for name in ("BrandAsset", "Invoice", "Seller")
    )
    kept = {}

    def keep(text):
        if text not in kept:
            body = base64.b64decode(text)
            sha256 = hashlib.sha256(body).hexdigest()
            media = "image/jpeg" if body.startswith(b"\xff\xd8") else "image/png"
            asset.objects.get_or_create(sha256=sha256, defaults={"body": body, "media_type": media})
            kept[text] = sha256 if base64.b64encode(body).decode() == text else ""
        return kept[text]

    for row in seller.objects.exclude(logo_text=""):
        seller.objects.filter(pk=row.pk).update(logo=keep(row.logo_text) or None)
    for pk, copy in _pages(invoice, "pk", "seller"):
        text = copy.get("logo")
        if text is not None and (not text or keep(text)):
            sha256 = keep(text) if text else ""  # also of none, as it is written from now on
            del copy["logo"]
            invoice.objects.filter(pk=pk).update(seller={**copy, "logo_sha256": sha256})


def give_logos_back(apps, schema_editor):
    asset, invoice, seller = (
        apps.get_model("billing", name) for name in ("BrandAsset", "Invoice", "Seller")
    )

    kept = {}

    def text(sha256):
        if sha256 and sha256 not in kept:
            kept[sha256] = base64.b64encode(bytes(asset.objects.get(pk=sha256).body)).decode()
        return kept[sha256] if sha256 else ""

    for row in seller.objects.exclude(logo=None):
        seller.objects.filter(pk=row.pk).update(logo_text=text(row.logo_id))
    for pk, copy in _pages(invoice, "pk", "seller"):
        if "logo_sha256" in copy:
            sha256 = copy.pop("logo_sha256")
            invoice.objects.filter(pk=pk).update(seller={**copy, "logo": text(sha256)})


def issued_alone(notes):
    """Credit notes whose hash is of parties of their own too."""
    parties = notes.exclude(number=None).values_list("seller", flat=True)
    return sum(bool(seller) for seller in parties.iterator())


def with_times(adjustments):
    """Service credits for times, also of nothing."""
    return sum(bool(times) for times in adjustments.values_list("windows", flat=True).iterator())


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [
        ("billing", "0013_concessions_and_rounds"),
    ]

    operations = [
        migrations.RunPython(unguard_as_before, guard_as_before),
        migrations.CreateModel(
            name="BrandAsset",
            fields=[
                ("sha256", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("media_type", models.CharField(default="image/png", max_length=40)),
                ("body", models.BinaryField()),
                ("kept_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={"ordering": ["kept_at"]},
        ),
        migrations.CreateModel(
            name="CreditNoteMailing",
            fields=[
                (
                    "credit_note",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="mailing",
                        serialize=False,
                        to="billing.creditnote",
                    ),
                ),
                ("sent_at", models.DateTimeField(blank=True, db_index=True, null=True)),
                ("sending_since", models.DateTimeField(blank=True, null=True)),
            ],
            options={"ordering": ["-credit_note"]},
        ),
        migrations.RemoveConstraint(model_name="adjustment", name="adjustment_of_something"),
        migrations.AddField(
            model_name="adjustment",
            name="windows",
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.AddField(
            model_name="creditnote", name="seller", field=models.JSONField(default=dict)
        ),
        migrations.AddField(
            model_name="creditnote", name="buyer", field=models.JSONField(default=dict)
        ),
        migrations.AddField(
            model_name="creditnote", name="tax", field=models.JSONField(default=dict)
        ),
        migrations.AddField(
            model_name="invoicedocument",
            name="credit_note",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="documents",
                to="billing.creditnote",
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="net",
            field=models.DecimalField(decimal_places=2, default=Decimal("0.00"), max_digits=20),
        ),
        migrations.AlterField(
            model_name="invoiceevent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("finalized", "finalized"),
                    ("sent", "sent"),
                    ("resent", "sent again"),
                    ("partially_paid", "partially paid"),
                    ("paid", "paid"),
                    ("reopened", "open again"),
                    ("credited", "credited"),
                    ("credit_sent", "credit note sent"),
                    ("overdue", "overdue"),
                    ("reminded", "reminded"),
                    ("suspended", "tenant suspended"),
                    ("voided", "voided"),
                    ("written_off", "written off"),
                ],
                max_length=16,
            ),
        ),
        migrations.RenameField(model_name="seller", old_name="logo", new_name="logo_text"),
        migrations.AddField(
            model_name="seller",
            name="logo",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                to="billing.brandasset",
            ),
        ),
        migrations.AlterField(
            model_name="seller",
            name="logo_text",
            field=models.TextField(blank=True, default="", editable=False),
        ),
        migrations.RunPython(find_nets, migrations.RunPython.noop),
        migrations.RunPython(keep_logos, give_logos_back),
        migrations.RemoveField(model_name="seller", name="logo_text"),
        migrations.AddConstraint(
            model_name="adjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("amount", 0), _negated=True),
                    models.Q(("source", "sla_gap"), ("state__in", ["proposed", "rejected"])),
                    _connector="OR",
                ),
                name="adjustment_of_something",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoicedocument",
            constraint=models.UniqueConstraint(
                fields=("credit_note", "format"), name="credit_note_document_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoicedocument",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("credit_note__isnull", True), ("invoice__isnull", False)),
                    models.Q(("credit_note__isnull", False), ("invoice__isnull", True)),
                    _connector="OR",
                ),
                name="document_of_one_thing",
            ),
        ),
        migrations.RunPython(guard, unguard),
        refuse_loss(
            "0014",
            ("CreditNote", "issued with parties of their own", issued_alone),
            (
                "InvoiceDocument",
                "of credit notes",
                lambda rows: rows.filter(invoice=None).count(),
            ),
            (
                "CreditNoteMailing",
                "credit notes mailed",
                lambda rows: rows.exclude(sent_at=None).count(),
            ),
            ("Adjustment", "service credits with the times they are for", with_times),
        ),
    ]
