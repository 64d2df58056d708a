"""The forms of webhooks, and their words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tenants.notices.kinds import SUBSCRIBABLE

KIND_NAMES: Mapping[str, str | Promise] = {
    "quota.warning": _("An allowance is nearly used"),
    "quota.reached": _("An allowance is used up (100 % and more)"),
    "invoice.sent": _("An invoice is sent"),
    "invoice.overdue": _("An invoice is overdue"),
    "credit_note.sent": _("A credit note is sent"),
    "payment.failed": _("A payment failed"),
    "key.rotated": _("A key is replaced"),
    "gap.recorded": _("Data is missing from a feed"),
    "webhook.disabled": _("A webhook is disabled"),
    "ping": _("A ping"),
}
STATES: Mapping[str, str | Promise] = {
    "": _("All"),
    "pending": _("Pending"),
    "delivered": _("Delivered"),
    "failed": _("Failed"),
    "abandoned": _("Abandoned"),
}


class EndpointForm(forms.Form):
    """Where to, and what of."""

    url = forms.CharField(
        label="URL",
        max_length=500,
        widget=forms.URLInput(
            attrs={"placeholder": "https://example.com/hooks/relay", "autocomplete": "off"}
        ),
        help_text=_("https, reachable from the internet. It gets a POST with a signature."),
    )
    kinds = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        choices=[(kind, KIND_NAMES.get(kind, kind)) for kind in SUBSCRIBABLE],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: all of them, also those that are added later."),
    )


class RotateForm(forms.Form):
    """For how long the old secret signs beside the new one."""

    hours = forms.TypedChoiceField(
        label=_("Both sign for"),
        coerce=int,
        initial=24,
        choices=[(0, _("not at all")), (1, _("1 hour")), (24, _("24 hours")), (168, _("7 days"))],
    )

    @property
    def overlap(self) -> timedelta:
        """Once it is valid."""
        return timedelta(hours=self.cleaned_data["hours"])
