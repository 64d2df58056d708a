"""When tenants became of another kind, and which invoice is in place of a void one. A tenant
without a change is taken to have been of its kind always.

Back it goes while there is neither. What is said in 0004 of SQLite and of MySQL with a binary log is true of the trigger here too.
"""

import django.db.models.deletion
from django.db import migrations, models

from billing.migrations._refusing import refuse_loss

TABLE = "billing_kindchange"
REFUSAL = {
    "sqlite": "BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "mysql": "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'append-only'",
}
TRIGGERS = {f"{TABLE}_no_{act.lower()}": act for act in ("UPDATE", "DELETE")}


def guard(apps, schema_editor):
    unguard(apps, schema_editor)  # what a run that was stopped half way left
    body = REFUSAL[schema_editor.connection.vendor]
    for name, act in TRIGGERS.items():
        schema_editor.execute(f"CREATE TRIGGER {name} BEFORE {act} ON {TABLE} {body}")


def unguard(apps, schema_editor):
    for name in TRIGGERS:
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}")


class Migration(migrations.Migration):
    atomic = False  # MariaDB commits at each statement of this kind anyway

    dependencies = [
        ("billing", "0011_spending_turns"),
        ("tenants", "0008_warnings_by_limit"),
    ]

    operations = [
        migrations.AddField(
            model_name="invoicecursor",
            name="kind_changes",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.CreateModel(
            name="InvoiceReplacement",
            fields=[
                (
                    "invoice",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="replacement_of",
                        serialize=False,
                        to="billing.invoice",
                    ),
                ),
                (
                    "replaces",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="replaced_by",
                        to="billing.invoice",
                    ),
                ),
            ],
            options={
                "ordering": ["invoice"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("invoice", models.F("replaces")), _negated=True),
                        name="invoice_replaces_another",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="KindChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("at", models.DateTimeField()),
                ("position", models.BigIntegerField()),
                (
                    "before",
                    models.CharField(
                        choices=[
                            ("external", "customer"),
                            ("internal", "our own"),
                            ("demo", "demo"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "after",
                    models.CharField(
                        choices=[
                            ("external", "customer"),
                            ("internal", "our own"),
                            ("demo", "demo"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="kind_changes",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["tenant", "number"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "number"), name="kind_change_one_number"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("number__gte", 1),
                            ("position__gte", 0),
                            models.Q(("before", models.F("after")), _negated=True),
                        ),
                        name="kind_change_is_one",
                    ),
                ],
            },
        ),
        migrations.RunPython(guard, unguard),
        refuse_loss(
            "0012",
            ("KindChange", "changes of a tenant's kind", lambda rows: rows.count()),
            ("InvoiceReplacement", "invoices in place of void ones", lambda rows: rows.count()),
        ),
    ]
