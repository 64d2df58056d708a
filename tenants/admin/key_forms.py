"""What a key may, and how long an old one goes on, as forms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from tenants import services
from tenants.admission.principal import Scope
from tenants.models import KEY_RIGHTS, APIKey, default_scopes


class LinesField(forms.CharField):
    """A list of texts, each on a line of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=UnfoldAdminTextareaWidget({"rows": 3}), **options)

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class APIKeyForm(forms.ModelForm):
    """Scopes as boxes and lists as lines instead of JSON."""

    scopes = forms.MultipleChoiceField(
        choices=[(str(scope), str(scope)) for scope in Scope],
        initial=default_scopes,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    allowed_networks = LinesField(
        label="Allowed addresses",
        help_text="Addresses and networks, one a line: 192.0.2.0/24. None: from everywhere.",
    )
    allowed_origins = LinesField(
        help_text="Web pages, one a line: https://desk.example. None: from everywhere. "
        "Programs send no origin: with a list here they are refused.",
    )

    opened_as = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = APIKey
        fields = ("tenant", "environment", *KEY_RIGHTS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["opened_as"].initial = self.instance.opened_as

    def clean(self) -> dict[str, Any]:
        """What the model cannot say here: a constraint on a field that is not on the page."""
        cleaned: dict[str, Any] = super().clean() or {}
        expires_at = cleaned.get("expires_at")
        if expires_at is not None and expires_at < self.instance.created_at:
            self.add_error("expires_at", "A key cannot expire before it was issued.")
        opened_as = cleaned.get("opened_as")
        # The instance is still what this request read; later changes are found by the service.
        if opened_as and services.is_changed_since(opened_as, self.instance):
            self.add_error(None, services.CHANGED)
        return cleaned


class RotateForm(forms.Form):
    """How long the old key goes on beside the new one."""

    UNITS = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}

    amount = forms.IntegerField(
        initial=1, min_value=0, max_value=604_800, widget=UnfoldAdminIntegerFieldWidget
    )
    unit = forms.ChoiceField(
        initial="days", choices=[(name, name) for name in UNITS], widget=UnfoldAdminSelectWidget
    )

    @property
    def overlap(self) -> timedelta:
        """What was chosen."""
        return timedelta(
            seconds=self.cleaned_data["amount"] * self.UNITS[self.cleaned_data["unit"]]
        )

    def clean(self) -> dict[str, Any]:
        """Never longer than any old key may go on."""
        if not self.errors and self.overlap > services.MAX_OVERLAP:
            raise forms.ValidationError("The overlap must be within 0 seconds and 7 days.")
        return self.cleaned_data
