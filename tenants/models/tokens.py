"""Dashboard tokens: what a signed-in member's browser opens the relay's sockets with."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from tenants.admission.keys import SHOWN_CHARS
from tenants.models.people import Membership


class DashboardToken(models.Model):
    """A token without the token: of one member, one log-in and a few minutes. It goes with any of
    them."""

    membership = models.ForeignKey(
        Membership, on_delete=models.CASCADE, related_name="dashboard_tokens"
    )
    session_key = models.CharField(max_length=40, db_index=True)
    prefix = models.CharField(max_length=SHOWN_CHARS)
    digest = models.CharField(max_length=64, unique=True)
    origin = models.CharField(max_length=300, help_text="Of the page it was made for.")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="dashboard_token_has_a_life"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.membership}"
