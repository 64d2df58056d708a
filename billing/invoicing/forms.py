"""What an operator is asked before something is booked. The services refuse; forms only read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from billing.invoicing.brand import MAX_LOGO_BYTES, LogoError, keep, read_logo, refuse_large
from billing.models import Payment, Seller


def _amount(*, required: bool = True, help_text: str = "") -> forms.DecimalField:
    """An amount of money, in whole cents."""
    return forms.DecimalField(
        required=required,
        help_text=help_text,
        min_value=Decimal("0.01"),
        max_digits=20,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
    )


class ConfirmForm(forms.Form):
    """Nothing but a yes."""


class ReasonForm(forms.Form):
    """A reason, which is kept, and printed on a credit note."""

    reason = forms.CharField(max_length=300, widget=UnfoldAdminTextInputWidget())


class CreditForm(ReasonForm):
    """A credit of one line in part, or of all that is left."""

    line = forms.IntegerField(
        required=False, min_value=1, help_text="The place of a line; none: all that is left."
    )
    amount = _amount(
        required=False, help_text="Of what was paid for that line: after discounts, without tax."
    )

    def clean(self) -> dict[str, Any]:
        """A line and an amount, or neither."""
        cleaned = super().clean() or {}
        if (cleaned.get("line") is None) != (cleaned.get("amount") is None):
            raise forms.ValidationError("A line and an amount, or neither for all that is left.")
        return cleaned


class PaymentForm(forms.Form):
    """Money that came in for an invoice."""

    amount = _amount()
    method = forms.ChoiceField(choices=Payment.Method.choices, widget=UnfoldAdminSelectWidget())
    reference = forms.CharField(
        max_length=120,
        widget=UnfoldAdminTextInputWidget(),
        help_text="What the bank or the chain calls it; each is recorded once.",
    )
    external_id = forms.CharField(
        required=False,
        max_length=120,
        widget=UnfoldAdminTextInputWidget(),
        help_text="The bank's id of the transfer, where another has the same reference.",
    )
    received_at = forms.SplitDateTimeField(
        initial=timezone.now, widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC"
    )
    note = forms.CharField(required=False, max_length=300, widget=UnfoldAdminTextInputWidget())


class RefundForm(ReasonForm):
    """Money that was sent back."""

    amount = _amount()


class ChargeBackForm(ReasonForm):
    """Money that the bank took, or gave back."""

    amount = _amount(required=False, help_text="Empty: all of it.")


class AllocateForm(forms.Form):
    """What a payment was for."""

    invoice = forms.CharField(
        max_length=32, widget=UnfoldAdminTextInputWidget(), help_text="Its number."
    )
    amount = _amount(required=False, help_text="None: as much as is left, and open.")


class SellerForm(forms.ModelForm):
    """The seller, with a logo as a file."""

    logo_file = forms.FileField(
        label="logo",
        required=False,
        help_text=f"PNG or JPEG of at most {MAX_LOGO_BYTES // 1000} kB; replaces the one there is.",
    )
    without_logo = forms.BooleanField(required=False, help_text="Print the name instead.")

    class Meta:
        model = Seller
        exclude = ("logo",)  # noqa: DJ006 - all but the one that is read from a file

    def clean_logo_file(self) -> bytes:
        """The picture as it is kept."""
        upload = self.cleaned_data.get("logo_file")
        if not upload:
            return b""
        try:
            refuse_large(upload.size)
            return read_logo(upload.read())
        except LogoError as error:
            raise forms.ValidationError(str(error)) from None

    def save(self, commit: bool = True) -> Any:
        """Take the logo along."""
        if self.cleaned_data.get("without_logo"):
            self.instance.logo = None
        elif body := self.cleaned_data.get("logo_file"):
            self.instance.logo = keep(body)
        return super().save(commit)
