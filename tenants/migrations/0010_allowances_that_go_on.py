from django.db import migrations, models
from django.db.models import Max
from django.utils import timezone


def mark_the_last(apps, schema_editor):
    """Those of the newest period that is written."""
    allowances = apps.get_model("tenants", "Allowance").objects.order_by()
    last = (
        allowances.filter(ends_at__gt=timezone.now()).values("tenant").annotate(end=Max("ends_at"))
    )
    for row in list(last):
        allowances.filter(tenant=row["tenant"], ends_at=row["end"]).update(goes_on=True)


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0009_exchange_rails"),
    ]

    operations = [
        migrations.AddField(
            model_name="allowance",
            name="goes_on",
            field=models.BooleanField(
                default=False,
                help_text="Whether its amount holds on after its end until there is another.",
            ),
        ),
        migrations.RunPython(mark_the_last, migrations.RunPython.noop),
    ]
