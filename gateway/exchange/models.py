"""From which addresses of ours actions are sent."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from tenants.models import Tenant

#: What the exchange allows an address in a minute, all its requests together.
PER_MINUTE = 1_200


class EgressAddress(models.Model):
    """An address of this host, shared by all tenants or of one alone. Without any, the kernel
    chooses, and all share that."""

    address = models.GenericIPAddressField(
        unique=True, help_text="Of an interface of the hosts that run the edges."
    )
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="egress_addresses",
        help_text="Whose alone it is; none: everybody's.",
    )
    weight_per_minute = models.PositiveIntegerField(
        default=PER_MINUTE,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
        help_text="What the exchange allows it.",
    )
    is_enabled = models.BooleanField("enabled", default=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["address"]
        verbose_name_plural = "egress addresses"
        constraints = [
            models.CheckConstraint(
                condition=Q(weight_per_minute__gte=1), name="egress_address_allows_some"
            )
        ]

    def __str__(self) -> str:
        return self.address


class OrderTrace(models.Model):
    """No table: gives the list of order traces its place and its permission in the admin."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = "order trace"

    def __str__(self) -> str:
        return "order traces"
