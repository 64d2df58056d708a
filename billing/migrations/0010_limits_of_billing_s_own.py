"""Whether a tenant's own limits are billing's is written down, where it was inferred."""

from django.db import migrations, models

_AT_ONCE = 500


def mark(apps, schema_editor):
    """Billing wrote those of tenants that its prices rule, and of tenants without a plan."""
    applied = apps.get_model("billing", "AppliedTerms")
    override = apps.get_model("tenants", "QuotaOverride")
    version = apps.get_model("billing", "PlanVersion")
    priced = models.Exists(
        version.objects.filter(
            plan=models.OuterRef("subscription__plan"),
            version=models.OuterRef("subscription__version"),
        )
    )
    own = models.Exists(override.objects.filter(tenant=models.OuterRef("tenant")))
    found = list(
        applied.objects.filter(own)
        .filter(models.Q(subscription=None) | models.Q(priced))
        .values_list("pk", flat=True)
    )
    for start in range(0, len(found), _AT_ONCE):
        applied.objects.filter(pk__in=found[start : start + _AT_ONCE]).update(has_limits=True)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0009_payment_providers"),
    ]

    operations = [
        migrations.AddField(
            model_name="appliedterms",
            name="has_limits",
            field=models.BooleanField(default=False),
        ),
        migrations.RunPython(mark, migrations.RunPython.noop),
    ]
