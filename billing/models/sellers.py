"""Who issues the invoices, and the pictures that are printed on them."""

from __future__ import annotations

from typing import TypeVar

from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet

_Row = TypeVar("_Row", bound=models.Model)


class KeptRows(AppendOnlyQuerySet[_Row]):
    """Rows that are written once."""


class BrandAsset(AppendOnlyModel):
    """A picture, kept once under the SHA-256 of its bytes, by which finalized documents name it."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    media_type = models.CharField(max_length=40, default="image/png")
    body = models.BinaryField()
    kept_at = models.DateTimeField(default=timezone.now)

    objects = KeptRows["BrandAsset"].as_manager()

    class Meta:
        ordering = ["kept_at"]

    def __str__(self) -> str:
        return f"{self.media_type} {self.sha256[:12]}"


class Seller(models.Model):
    """Who issues the invoices: one row, that a finalized invoice has copied."""

    # There is one row, number 1.
    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    name = models.CharField("legal name", max_length=200)
    address = models.TextField(max_length=500, blank=True, help_text="As printed, line by line.")
    tax_id = models.CharField("tax id", max_length=40, blank=True)
    email = models.EmailField("e-mail", blank=True, help_text="Whom to ask about an invoice.")
    website = models.CharField(max_length=200, blank=True)
    payment_instructions = models.TextField(
        max_length=2_000, blank=True, help_text="Bank account, USDC address: how to pay."
    )
    footer = models.CharField(max_length=300, blank=True)
    color = models.CharField(
        max_length=7,
        default="#1f3a5f",
        validators=[RegexValidator(r"\A#[0-9a-fA-F]{6}\Z", "A colour like #1f3a5f.")],
        help_text="Of headings and rules: #rrggbb.",
    )
    logo = models.ForeignKey(
        BrandAsset, on_delete=models.PROTECT, null=True, blank=True, editable=False
    )
    net_days = models.PositiveSmallIntegerField(
        "days to pay", default=14, validators=[MaxValueValidator(365)]
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "seller"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="seller_one_row")]

    def __str__(self) -> str:
        return self.name
