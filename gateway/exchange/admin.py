"""Egress addresses, and the guard rails of keys with their kill switch."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from redis.exceptions import RedisError
from unfold.admin import ModelAdmin

from gateway.exchange import (
    trace_admin,  # noqa: F401 - registers its list
    trace_selectors,
)
from gateway.exchange.models import EgressAddress
from tenants import guarding
from tenants.admin.key_forms import LinesField
from tenants.models import ExchangeRails
from tenants.selectors import family_of

_EDITED = ("signers", "kinds", "coins", "max_order_usd", "max_minute_usd")


@admin.register(EgressAddress)
class EgressAddressAdmin(ModelAdmin):
    """Edges read them every ten seconds."""

    list_display = ("address", "tenant", "weight_per_minute", "is_enabled", "note")
    list_filter = ("is_enabled",)
    list_select_related = ("tenant",)
    search_fields = ("address", "tenant__name", "note")
    autocomplete_fields = ("tenant",)


class RailsForm(forms.ModelForm):
    """Lists as lines; a page that was opened before somebody else changed the rails is refused."""

    signers = LinesField(
        label="Allowed signers",
        help_text="Addresses of wallets and agents, one a line. None: everybody's signatures.",
    )
    kinds = LinesField(
        label="Allowed actions", help_text="Such as order and cancel, one a line. None: all."
    )
    coins = LinesField(label="Allowed coins", help_text="Such as BTC, one a line. None: all.")
    opened = forms.CharField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = ExchangeRails
        fields = ("key", "is_cancel_only", *_EDITED)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.instance.pk is not None:
            self.fields["opened"].initial = _digest(self.instance)

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError."""
        cleaned: dict[str, Any] = super().clean() or {}
        if self.instance.pk is None:
            key = cleaned.get("key")
            if key and ExchangeRails.objects.filter(key=key.family_id).exists():
                self.add_error("key", "It has guard rails: change those. Rotations share them.")
        else:
            current = ExchangeRails.objects.get(pk=self.instance.pk)
            if cleaned.get("opened") != _digest(current):
                raise forms.ValidationError(
                    "Somebody changed these guard rails since you opened this page. Open it again."
                )
        return cleaned


def _digest(rails: ExchangeRails) -> str:
    values = [str(getattr(rails, name)) for name in guarding.FIELDS if name != "is_killed"]
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:16]


@admin.register(ExchangeRails)
class ExchangeRailsAdmin(ModelAdmin):
    """What keys may not do. What is saved here is known to all edges within a second. The kill
    switch is an action of its own, so that no form undoes it."""

    form = RailsForm
    fields = ("key", "is_killed", "is_cancel_only", *_EDITED, "warned", "opened")
    list_display = (
        *("key", "tenant", "is_killed", "is_cancel_only"),
        *("max_order_usd", "max_minute_usd"),
    )
    list_filter = ("is_killed", "is_cancel_only")
    list_select_related = ("key__tenant",)
    search_fields = ("key__prefix", "key__name", "key__tenant__name")
    autocomplete_fields = ("key",)
    actions = ("kill", "revive")

    @admin.display(ordering="key__tenant__name")
    def tenant(self, rails: ExchangeRails) -> str:
        return str(rails.key.tenant)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        shown = ("is_killed", "warned")
        return shown if obj is None else ("key", *shown)

    @admin.display(description="warnings in 24 h")
    def warned(self, rails: ExchangeRails) -> str:
        """Of the nonces and clocks of these keys' actions."""
        if rails._state.adding:
            return "–"
        try:
            by_key = trace_selectors.warnings(rails.key.tenant)
        except (RedisError, OSError):
            return "not known now"
        family = set(family_of(rails.key).values_list("pk", flat=True))
        counts: Counter[str] = Counter()
        for key_id in family & by_key.keys():
            counts.update(by_key[key_id])
        return ", ".join(f"{code}: {count:,}" for code, count in sorted(counts.items())) or "none"

    def save_model(self, request: HttpRequest, obj: ExchangeRails, form: Any, change: bool) -> None:
        """Through the service, so that the doors are told."""
        values = {name: getattr(obj, name) for name in ("is_cancel_only", *_EDITED)}
        saved = guarding.set_rails(obj.key, **values)
        obj.pk, obj.key = saved.pk, saved.key

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Empty them instead: who deleted a kill switch would be gone from the list."""
        return False

    @admin.action(description="Kill: send nothing more", permissions=["change"])
    def kill(self, request: HttpRequest, chosen: QuerySet[ExchangeRails]) -> None:
        """The kill switch."""
        for rails in chosen.select_related("key"):
            guarding.kill(rails.key)
        messages.warning(request, "Killed. Nothing of these keys is sent to the exchange any more.")

    @admin.action(description="Send again", permissions=["change"])
    def revive(self, request: HttpRequest, chosen: QuerySet[ExchangeRails]) -> None:
        """The kill switch off."""
        for rails in chosen.select_related("key"):
            guarding.revive(rails.key)
        messages.success(request, "These keys send again what their other rails let pass.")
