"""What a step back would lose: it is refused, in one line, while there is any of it."""

from django.db import migrations
from django.db.migrations.exceptions import IrreversibleError


def refuse_loss(step, *kept):
    """An operation for the end of a migration, where it is the first of going back. `kept` are
    model, what its rows are, and a function from its manager to how many would be lost."""

    def refuse(apps, schema_editor):
        for name, what, count in kept:
            model = apps.get_model("billing", name)
            if lost := count(model._base_manager):
                raise IrreversibleError(
                    f"billing.{step} cannot be reversed: {lost:,} rows of {model._meta.db_table} "
                    f"({what}) would be lost. Restore a backup of before it instead"
                )

    return migrations.RunPython(migrations.RunPython.noop, refuse)
