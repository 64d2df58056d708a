"""What an operator is asked before something is booked. The services refuse; forms only read."""

from __future__ import annotations

import base64
import io
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

from billing.models import Payment, Seller

MAX_LOGO_BYTES = 200_000
MAX_LOGO_SIDE = 2_000


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
    amount = forms.DecimalField(
        required=False,
        min_value=Decimal("0.01"),
        max_digits=20,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="Of that line, without tax.",
    )

    def clean(self) -> dict[str, Any]:
        """A line and an amount, or neither."""
        cleaned = super().clean() or {}
        if (cleaned.get("line") is None) != (cleaned.get("amount") is None):
            raise forms.ValidationError("A line and an amount, or neither for all that is left.")
        return cleaned


class PaymentForm(forms.Form):
    """Money that came in for an invoice."""

    amount = forms.DecimalField(
        min_value=Decimal("0.01"),
        max_digits=20,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
    )
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

    amount = forms.DecimalField(
        min_value=Decimal("0.01"),
        max_digits=20,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
    )


class AllocateForm(forms.Form):
    """What a payment was for."""

    invoice = forms.CharField(
        max_length=32, widget=UnfoldAdminTextInputWidget(), help_text="Its number."
    )
    amount = forms.DecimalField(
        required=False,
        min_value=Decimal("0.01"),
        max_digits=20,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="None: as much as is left, and open.",
    )


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

    def clean_logo_file(self) -> str:
        """The image in base64, drawn anew as PNG, so that nothing but pixels is kept."""
        upload = self.cleaned_data.get("logo_file")
        if not upload:
            return ""
        if upload.size > MAX_LOGO_BYTES:
            raise forms.ValidationError(
                f"{upload.size:,} bytes; a logo is at most {MAX_LOGO_BYTES:,}."
            )
        from PIL import Image  # 60 ms, for those who upload

        try:
            image = Image.open(io.BytesIO(upload.read()), formats=("PNG", "JPEG"))
            if max(image.size) > MAX_LOGO_SIDE:
                raise forms.ValidationError(f"A side is at most {MAX_LOGO_SIDE:,} pixels.")
            drawn = io.BytesIO()
            image.convert("RGBA").save(drawn, "PNG")
        except (OSError, ValueError, Image.DecompressionBombError):
            raise forms.ValidationError("This is no PNG or JPEG.") from None
        return base64.b64encode(drawn.getvalue()).decode("ascii")

    def save(self, commit: bool = True) -> Any:
        """Take the logo along."""
        if self.cleaned_data.get("without_logo"):
            self.instance.logo = ""
        elif self.cleaned_data.get("logo_file"):
            self.instance.logo = self.cleaned_data["logo_file"]
        return super().save(commit)
