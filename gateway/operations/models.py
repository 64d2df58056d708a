"""How fresh what we serve was, minute by minute; incidents, and announcements to customers."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tenants.append_only import AppendOnlyModel, AppendOnlyQuerySet

SUBJECT_CHARS = 60


class Freshness(models.Model):
    """How often a subject was looked at in a minute, an hour or a day, and found fresh.

    A minute is one look; hours and days are sums of their minutes, written in the same transaction.
    `age_ms_sum` adds up the ages of the newest block in the `aged` looks that knew one.
    """

    class Span(models.TextChoices):
        MINUTE = "minute", "minute"
        HOUR = "hour", "hour"
        DAY = "day", "day"

    span = models.CharField(max_length=6, choices=Span.choices)
    start = models.DateTimeField()
    subject = models.CharField(max_length=SUBJECT_CHARS)
    looks = models.PositiveIntegerField(default=0)
    fresh = models.PositiveIntegerField(default=0)
    aged = models.PositiveIntegerField(default=0)
    age_ms_sum = models.PositiveBigIntegerField(default=0)
    age_ms_max = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-start", "subject"]
        verbose_name_plural = "freshness"
        constraints = [
            # In this order it is also the index that pages and retention read along.
            models.UniqueConstraint(fields=["span", "start", "subject"], name="freshness_once"),
            models.CheckConstraint(
                condition=Q(span__in=["minute", "hour", "day"]), name="freshness_span_known"
            ),
            models.CheckConstraint(
                condition=Q(fresh__lte=F("looks"), aged__lte=F("looks")),
                name="freshness_within_looks",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.start:%Y-%m-%d %H:%M} ({self.span})"


class Incident(models.Model):
    """Something customers may notice, or will. What is said of it are its updates."""

    class Impact(models.TextChoices):
        MINOR = "minor", _("minor")
        MAJOR = "major", _("major")
        OUTAGE = "outage", _("outage")
        MAINTENANCE = "maintenance", _("maintenance")

    title = models.CharField(max_length=120)
    impact = models.CharField(max_length=12, choices=Impact.choices, default=Impact.MINOR)
    affects = models.CharField(
        max_length=200, blank=True, help_text="Which feeds or doors, in a customer's words."
    )
    started_at = models.DateTimeField(
        default=timezone.now, help_text="UTC; of maintenance: when it begins."
    )
    #: Of the update that says so; services.add_update writes it.
    resolved_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(impact__in=["minor", "major", "outage", "maintenance"]),
                name="incident_impact_known",
            )
        ]
        indexes = [
            models.Index(fields=["-started_at"], name="incident_by_time"),
            # The open ones stand together, as NULLs.
            models.Index(fields=["resolved_at"], name="incident_by_end"),
        ]

    def __str__(self) -> str:
        return self.title


class IncidentUpdate(AppendOnlyModel):
    """What was said of an incident, for good: it has been read, and sent to feed readers."""

    class State(models.TextChoices):
        SCHEDULED = "scheduled", _("scheduled")
        INVESTIGATING = "investigating", _("investigating")
        IDENTIFIED = "identified", _("identified")
        MONITORING = "monitoring", _("monitoring")
        RESOLVED = "resolved", _("resolved")

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="updates")
    at = models.DateTimeField(default=timezone.now, editable=False)
    state = models.CharField(max_length=13, choices=State.choices, default=State.INVESTIGATING)
    text = models.TextField(max_length=4_000)
    by = models.CharField(max_length=150, blank=True, editable=False)

    objects = AppendOnlyQuerySet["IncidentUpdate"].as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "scheduled", "investigating", "identified", "monitoring", "resolved",
                    ]
                ),
                name="incident_update_state_known",
            )
        ]  # fmt: skip
        indexes = [models.Index(fields=["-at"], name="incident_update_by_time")]

    def __str__(self) -> str:
        return f"{self.incident}: {self.state}"


class Announcement(models.Model):
    """What every customer is to see on the dashboard and the status page for a while."""

    class Level(models.TextChoices):
        INFO = "info", _("information")
        WARNING = "warning", _("warning")

    title = models.CharField(max_length=120)
    text = models.TextField(max_length=2_000, blank=True)
    level = models.CharField(max_length=7, choices=Level.choices, default=Level.INFO)
    link = models.CharField(
        max_length=200, blank=True, help_text="Of this site (/docs/en/) or an https:// address."
    )
    starts_at = models.DateTimeField(default=timezone.now, help_text="UTC.")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="UTC; none: until deleted.")

    class Meta:
        ordering = ["-starts_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(level__in=["info", "warning"]), name="announcement_level_known"
            ),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
                name="announcement_ends_after_it_starts",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """A link leads within this site or over https: `javascript:` is an address too."""
        is_own = self.link.startswith("/") and not self.link.startswith("//")
        if self.link and not is_own and not self.link.startswith("https://"):
            raise ValidationError({"link": "Begin with / (this site) or https://."})
        if self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValidationError({"ends_at": "Ends before it starts; choose a later time."})
