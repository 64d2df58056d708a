"""What was mailed in several mails, one of which was not taken."""

from __future__ import annotations

from django.db import models


class PartlyMailed(models.Model):
    """The languages whose readers a document did not reach, and when that is tried again: never
    where it reached all, or was tried for long enough."""

    rest_languages = models.JSONField("not taken in", default=list, blank=True)
    rest_tries = models.PositiveSmallIntegerField(default=0)
    rest_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        abstract = True
