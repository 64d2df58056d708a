"""What was refused or failed at the HTTP edge."""

from __future__ import annotations

from django.db import models

from gateway.requests.entry import CODE_CHARS, ID_CHARS, KIND_CHARS
from tenants.models import Tenant


class RequestRecordQuerySet(models.QuerySet["RequestRecord"]):
    """Reads by tenant."""

    def for_tenant(self, tenant: Tenant) -> RequestRecordQuerySet:
        """What `tenant` may see."""
        return self.filter(tenant=tenant)


class RequestRecord(models.Model):
    """One request that got an answer of 400 or above, or an error in its JSON-RPC answer.

    Never its body, its address or its key. Written by the edges in bulk, read by tenants and
    operators, deleted after `RELAY_KEEP_REQUESTS_DAYS`.
    """

    at = models.DateTimeField()
    request_id = models.CharField(max_length=ID_CHARS)
    # No constraint in the database: a tenant that is gone must not stop a batch of the others'.
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="request_records",
    )
    key_prefix = models.CharField(max_length=16, blank=True)
    door = models.CharField(max_length=12)
    method = models.CharField(max_length=8)
    kind = models.CharField(max_length=KIND_CHARS, blank=True)
    status = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=CODE_CHARS, blank=True)
    upstream_ms = models.FloatField(null=True, blank=True)
    total_ms = models.FloatField()

    objects = RequestRecordQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name = "failed request"
        indexes = [
            models.Index(fields=["-at"], name="request_by_time"),
            models.Index(fields=["tenant", "-at"], name="request_of_tenant"),
            models.Index(fields=["request_id"], name="request_by_id"),
        ]

    def __str__(self) -> str:
        return f"{self.door} {self.kind or self.method}: {self.status} {self.code}".strip()
