"""The form of who is told: at which percentages, and what is mailed to whom."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway.account.spending import Spending
from gateway.dashboard.forms import LinesField
from gateway.dashboard.webhook_forms import KIND_NAMES
from gateway.dashboard.words import word
from tenants.models import MAX_ALERT_ADDRESSES, MAX_THRESHOLD, MAX_THRESHOLDS, MIN_THRESHOLD
from tenants.notices.kinds import MAILED_TO_MEMBERS
from tenants.people.roles import Role

_BETWEEN = re.compile(r"[\s,、，;]+")
_WHOLE = re.compile(r"[0-9]{1,4}", re.ASCII)


class PercentagesField(forms.CharField):
    """Whole percentages in a line, with commas or spaces between, and with or without their
    signs."""

    def to_python(self, value: Any) -> Any:
        parts = [one for one in _BETWEEN.split((value or "").replace("%", " ")) if one]
        for one in parts:
            if not _WHOLE.fullmatch(one):
                raise ValidationError(
                    _("“%(text)s” is no whole number from %(least)s to %(most)s.")
                    % {"text": one[:20], "least": MIN_THRESHOLD, "most": MAX_THRESHOLD}
                )
        return [int(one) for one in parts]

    def run_validators(self, value: Any) -> None:
        """What numbers may be, the use case says."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


class AlertsForm(forms.Form):
    """What may be chosen; a field has the name that the API has for it."""

    thresholds = PercentagesField(
        label=gettext_lazy("Percentages"),
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "maxlength": 80}),
        help_text=format_lazy(
            gettext_lazy(
                "Whole numbers from {least} to {most}, at most {count}. 100 is told in any case."
            ),
            least=MIN_THRESHOLD,
            most=MAX_THRESHOLD,
            count=MAX_THRESHOLDS,
        ),
    )
    mail_kinds = forms.MultipleChoiceField(
        label=gettext_lazy("Mailed"),
        required=False,
        choices=[(kind, KIND_NAMES.get(kind, kind)) for kind in MAILED_TO_MEMBERS],
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy(
            "Webhooks are told what each of them asked for. A replaced key is always mailed to who "
            "manages keys."
        ),
    )
    mail_roles = forms.MultipleChoiceField(
        label=gettext_lazy("To everybody in these roles"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    mail_addresses = LinesField(
        label=gettext_lazy("And to these members"),
        help_text=format_lazy(
            gettext_lazy(
                "An e-mail address a line, at most {count}. Without roles and addresses those are "
                "mailed whose business it is: of allowances who may change the plan, of keys, "
                "feeds and webhooks who manages keys."
            ),
            count=MAX_ALERT_ADDRESSES,
        ),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        roles: Any = self.fields["mail_roles"]
        roles.choices = [(str(role), word(str(role))) for role in Role]

    @classmethod
    def of(cls, found: Spending) -> AlertsForm:
        """As it was chosen last."""
        names = ("thresholds", "mail_kinds", "mail_roles", "mail_addresses")
        return cls(initial={name: list(getattr(found, name)) for name in names})
