"""Guard rails of keys: what a key may not do on the exchange."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext as _

from tenants.models.admission import APIKey

#: Of each list. Every trade walks them, and Redis holds them with the key.
MAX_NAMES = 200
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}")
_COIN = re.compile(r"[!-~]{1,40}")


def validate_signers(texts: object) -> None:
    """Raises ValidationError unless `texts` is a list of lower-case addresses."""
    _validate(texts, _ADDRESS, _("%(text)r is no address: 0x and 40 lower-case hex digits."))


def validate_kinds_of_action(texts: object) -> None:
    """Raises ValidationError unless `texts` is a list of names of actions."""
    _validate(texts, _WORD, _("%(text)r is no type of action, such as order or cancel."))


def validate_coins(texts: object) -> None:
    """Raises ValidationError unless `texts` is a list of names of coins."""
    _validate(texts, _COIN, _("%(text)r is no coin, such as BTC or @107."))


def _validate(texts: object, form: re.Pattern[str], problem: str) -> None:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValidationError(_("A list of texts is needed."))
    if len(texts) > MAX_NAMES:
        raise ValidationError(
            _("%(count)s entries; at most %(most)s fit.") % {"count": len(texts), "most": MAX_NAMES}
        )
    for text in texts:
        if form.fullmatch(text) is None:
            raise ValidationError(problem % {"text": text[:60]})


def _list(verbose_name: str, validate: Callable[[object], None], help_text: str) -> models.Field:
    return models.JSONField(
        verbose_name, default=list, blank=True, validators=[validate], help_text=help_text
    )


def _amount(verbose_name: str, help_text: str) -> models.Field:
    return models.DecimalField(
        verbose_name,
        max_digits=14,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=help_text,
    )


class ExchangeRails(models.Model):
    """Of all keys of a chain of rotations: `key` is the first of it. Without a row nothing is
    checked."""

    key = models.OneToOneField(APIKey, on_delete=models.CASCADE, related_name="exchange_rails")
    is_killed = models.BooleanField(
        "kill switch", default=False, help_text="Nothing is sent to the exchange any more."
    )
    is_cancel_only = models.BooleanField(
        "cancels only", default=False, help_text="Only what takes back is sent."
    )
    signers = _list(
        "allowed signers",
        validate_signers,
        "Addresses of wallets and agents whose signatures are sent; none: everybody's.",
    )
    kinds = _list(
        "allowed actions",
        validate_kinds_of_action,
        "Types of actions, such as order and cancel; none: all.",
    )
    coins = _list("allowed coins", validate_coins, "Names, such as BTC; none: all.")
    max_order_usd = _amount("most of an order, USD", "At its limit or the market, what is more.")
    max_minute_usd = _amount("most in a minute, USD", "Of orders that may open a position.")

    class Meta:
        verbose_name = "guard rails"
        verbose_name_plural = "guard rails"
        constraints = [
            models.CheckConstraint(
                condition=(Q(max_order_usd__isnull=True) | Q(max_order_usd__gte=0))
                & (Q(max_minute_usd__isnull=True) | Q(max_minute_usd__gte=0)),
                name="rails_amounts_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"guard rails of {self.key}"
