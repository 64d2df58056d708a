"""When a spend cap was last held against what was used, so that turns are fair."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0010_limits_of_billing_s_own"),
    ]

    operations = [
        migrations.AddField(
            model_name="appliedterms",
            name="limited_at",
            field=models.DateTimeField(db_index=True, null=True),
        ),
    ]
