"""What a key may, its guard rails, and how long an old one goes on, as forms."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from gateway.dashboard.forms import LinesField
from tenants.admission.principal import DEFAULT_SCOPES, Scope
from tenants.models import KEY_RIGHTS, APIKey, ExchangeRails

SCOPES = {
    Scope.WS: _("WebSocket: live feeds"),
    Scope.INFO: _("HTTP /info: reads"),
    Scope.GRPC: _("gRPC: live feeds and reads"),
    Scope.EVM: _("EVM JSON-RPC"),
    Scope.EXCHANGE: _("Trading: forward signed actions"),
    Scope.HISTORY: _("History"),
    Scope.SANDBOX: _("Sandbox: trade where nothing is real"),
    Scope.ACCOUNT_READ: _("Account API: look"),
    Scope.ACCOUNT: _("Account API: look and change"),
}
OVERLAPS = (
    (timedelta(0), _("none: the old key ends at once")),
    (timedelta(hours=1), _("1 hour")),
    (timedelta(hours=24), _("24 hours")),
    (timedelta(days=7), _("7 days")),
)
_UTC_INPUT = "%Y-%m-%dT%H:%M"


class KeyForm(forms.Form):
    """`KEY_RIGHTS`, and of a new key its environment."""

    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("What it is for, in your words.")
    )
    environment = forms.ChoiceField(
        label=_("Environment"),
        choices=[("live", _("live")), ("test", _("test"))],
        help_text=_("Shown in the key itself; both open the same doors."),
    )
    scopes = forms.MultipleChoiceField(
        label=_("What it opens"),
        choices=[(str(scope), label) for scope, label in SCOPES.items()],
        initial=[str(scope) for scope in DEFAULT_SCOPES],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("A key needs at least one scope.")},
    )
    allowed_networks = LinesField(
        label=_("Allowed addresses"),
        help_text=_("Addresses and networks, one a line: 192.0.2.0/24. None: from everywhere."),
    )
    allowed_origins = LinesField(
        label=_("Allowed web pages"),
        help_text=_(
            "Origins, one a line: https://desk.example. None: from everywhere. Programs send no "
            "origin: with a list here they are refused."
        ),
    )
    rate_per_minute = forms.IntegerField(
        label=_("Weight a minute"),
        min_value=1,
        required=False,
        help_text=_("Of its requests and handshakes; most requests weigh 20."),
    )
    rate_burst = forms.IntegerField(
        label=_("Burst"), min_value=1, required=False, help_text=_("How much may come at once.")
    )
    daily_quota = forms.IntegerField(
        label=_("Daily quota"),
        min_value=1,
        required=False,
        help_text=_("Messages and requests a UTC day, of all keys of its rotations."),
    )
    monthly_quota = forms.IntegerField(
        label=_("Monthly quota"),
        min_value=1,
        required=False,
        help_text=_("The same, a UTC month."),
    )
    expires_at = forms.DateTimeField(
        label=_("Ends at (UTC)"),
        required=False,
        widget=forms.DateTimeInput({"type": "datetime-local"}, format=_UTC_INPUT),
        input_formats=[_UTC_INPUT, f"{_UTC_INPUT}:%S"],
    )
    owner = forms.CharField(
        label=_("Owner"), max_length=120, required=False, help_text=_("A person or a team.")
    )
    note = forms.CharField(label=_("Note"), max_length=500, required=False)
    opened_as = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, key: APIKey | None = None, **kwargs: Any) -> None:
        if key is not None:
            initial = {right: getattr(key, right) for right in KEY_RIGHTS}
            kwargs.setdefault("initial", initial | {"opened_as": key.opened_as})
        super().__init__(*args, **kwargs)
        if key is not None:
            # Both are part of what was promised when it was shown.
            del self.fields["environment"]
            if key.rotated_at is not None or key.revoked_at is not None:
                del self.fields["expires_at"]

    @property
    def rights(self) -> dict[str, Any]:
        """What was chosen, for the use case."""
        chosen = {name: value for name, value in self.cleaned_data.items() if name != "opened_as"}
        if chosen.get("expires_at") is not None:
            chosen["expires_at"] = chosen["expires_at"].replace(tzinfo=UTC)
        return chosen

    def groups(self) -> list[tuple[Any, list[Any]]]:
        """The fields as the page shows them, with a title each."""
        titles = (
            ("", ("name", "environment", "owner", "note")),
            (_("Where it opens"), ("scopes", "allowed_networks", "allowed_origins")),
            (_("How much"), ("rate_per_minute", "rate_burst", "daily_quota", "monthly_quota")),
            (_("How long"), ("expires_at",)),
        )
        return [
            (title, [self[name] for name in names if name in self.fields])
            for title, names in titles
            if any(name in self.fields for name in names)
        ]


class RotateForm(forms.Form):
    """How long the old key goes on beside the new one."""

    overlap = forms.TypedChoiceField(
        label=_("The old key works on for"),
        choices=[(int(span.total_seconds()), label) for span, label in OVERLAPS],
        coerce=lambda text: timedelta(seconds=int(text)),
        initial=86_400,
    )


class RailsForm(forms.Form):
    """What a key may not do on the exchange, but for the switch that stops all."""

    is_cancel_only = forms.BooleanField(
        label=_("Cancels only"), required=False, help_text=_("Only what takes back is sent.")
    )
    signers = LinesField(
        label=_("Allowed signers"),
        help_text=_("Addresses of wallets and agents, one a line; none: everybody's."),
    )
    kinds = LinesField(
        label=_("Allowed actions"), help_text=_("Such as order and cancel, one a line; none: all.")
    )
    coins = LinesField(
        label=_("Allowed coins"), help_text=_("Names, such as BTC, one a line; none: all.")
    )
    max_order_usd = forms.DecimalField(
        label=_("Most of an order, USD"), min_value=0, decimal_places=2, required=False
    )
    max_minute_usd = forms.DecimalField(
        label=_("Most in a minute, USD"), min_value=0, decimal_places=2, required=False
    )

    def __init__(self, *args: Any, rails: ExchangeRails | None = None, **kwargs: Any) -> None:
        if rails is not None:
            kwargs.setdefault("initial", {name: getattr(rails, name) for name in self.base_fields})
        super().__init__(*args, **kwargs)
