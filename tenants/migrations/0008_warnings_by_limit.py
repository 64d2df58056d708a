from django.db import migrations, models
from django.db.models import Max


def keep_the_largest_limit(apps, schema_editor):
    """Of warnings that differ in the limit alone, what the constraint before allowed."""
    warnings = apps.get_model("tenants", "QuotaWarning").objects.order_by()
    same = ("tenant_id", "period", "threshold")
    for row in list(warnings.values(*same).annotate(largest=Max("limit"))):
        largest = row.pop("largest")
        warnings.filter(**row).exclude(limit=largest).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0007_quota_warnings"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="quotawarning",
            name="quota_warning_once",
        ),
        migrations.RunPython(migrations.RunPython.noop, keep_the_largest_limit),
        migrations.AddConstraint(
            model_name="quotawarning",
            constraint=models.UniqueConstraint(
                fields=("tenant", "period", "threshold", "limit"), name="quota_warning_once"
            ),
        ),
    ]
