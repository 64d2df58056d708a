"""The database refuses to change or delete what is append-only, whoever asks.

On SQLite a later migration that alters one of these tables makes it anew, which drops its triggers:
it has to run `guard` and `unguard` of its own. On MySQL with a binary log, creating triggers needs
`log_bin_trust_function_creators=1` or the SUPER privilege.
"""

from django.db import migrations

TABLES = ("billing_usagebatch", "billing_ledgerentry", "billing_ledgerseal")
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

    dependencies = [("billing", "0003_opening_balances")]

    operations = [migrations.RunPython(guard, unguard)]
