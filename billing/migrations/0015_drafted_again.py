"""Another invoice in place of a void one is an event of it. A choice: nothing changes in the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0014_what_was_paid_and_what_is_printed"),
    ]

    operations = [
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
                    ("drafted_again", "drafted again"),
                    ("written_off", "written off"),
                ],
                max_length=16,
            ),
        ),
    ]
