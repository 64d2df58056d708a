"""What of a document's mails was not taken is tried again: the languages, how often, and when next."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0015_drafted_again"),
    ]

    operations = [
        migrations.AddField(
            model_name="creditnotemailing",
            name="rest_at",
            field=models.DateTimeField(blank=True, db_index=True, null=True),
        ),
        migrations.AddField(
            model_name="creditnotemailing",
            name="rest_languages",
            field=models.JSONField(blank=True, default=list, verbose_name="not taken in"),
        ),
        migrations.AddField(
            model_name="creditnotemailing",
            name="rest_tries",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="invoicestanding",
            name="rest_at",
            field=models.DateTimeField(blank=True, db_index=True, null=True),
        ),
        migrations.AddField(
            model_name="invoicestanding",
            name="rest_languages",
            field=models.JSONField(blank=True, default=list, verbose_name="not taken in"),
        ),
        migrations.AddField(
            model_name="invoicestanding",
            name="rest_tries",
            field=models.PositiveSmallIntegerField(default=0),
        ),
    ]
