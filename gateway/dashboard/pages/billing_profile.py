"""Whom invoices name, and what they are paid with."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from billing.models import ProviderCustomer
from billing.payments import customers
from billing.payments.chosen import provider
from billing.payments.provider import ProviderError
from gateway.dashboard.access import PageRequest, page
from tenants.models import BillingProfile
from tenants.people import services
from tenants.people.roles import May
from tenants.people.selectors import billing_identity
from tenants.people.services import CUSTOMER_FIELDS


class ProfileForm(forms.ModelForm):
    """What a customer says of itself."""

    # Without the model's validator, which is asked once it is in capitals.
    country = forms.CharField(
        required=False,
        max_length=2,
        label=gettext_lazy("Country"),
        help_text=gettext_lazy("Two letters, as in ISO 3166: DE, TW, US."),
        widget=forms.TextInput({"autocomplete": "country"}),
    )

    class Meta:
        model = BillingProfile
        fields = CUSTOMER_FIELDS
        labels = {
            "legal_name": gettext_lazy("Legal name"),
            "address_line1": pgettext_lazy("postal", "Address"),
            "address_line2": gettext_lazy("Address, second line"),
            "postal_code": gettext_lazy("Postal code"),
            "city": gettext_lazy("City"),
            "region": gettext_lazy("State or region"),
            "tax_id": gettext_lazy("Tax id"),
            "invoice_email": gettext_lazy("Invoice e-mail"),
        }
        help_texts = {
            "tax_id": gettext_lazy("VAT, GST or other number, as invoices show it."),
            "invoice_email": gettext_lazy("Where invoices go. Empty: to the owners."),
        }
        widgets = {
            "legal_name": forms.TextInput({"autocomplete": "organization"}),
            "address_line1": forms.TextInput({"autocomplete": "address-line1"}),
            "address_line2": forms.TextInput({"autocomplete": "address-line2"}),
            "postal_code": forms.TextInput({"autocomplete": "postal-code"}),
            "city": forms.TextInput({"autocomplete": "address-level2"}),
            "region": forms.TextInput({"autocomplete": "address-level1"}),
            "invoice_email": forms.EmailInput({"autocomplete": "email"}),
        }

    def clean_country(self) -> str:
        """In capitals, however it was typed."""
        return str(self.cleaned_data["country"]).strip().upper()


@page(may=May.EDIT_BILLING_PROFILE, methods=("GET", "HEAD", "POST"))
def profile(request: PageRequest) -> HttpResponse:
    """The form of the billing profile. Tax rates are the operator's, and shown only."""
    tenant = request.tenant
    kept = BillingProfile.objects.for_tenant(tenant).first()
    row: Any = kept or BillingProfile(tenant=tenant, legal_name=tenant.name)
    form = ProfileForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        values = {name: form.cleaned_data[name] for name in CUSTOMER_FIELDS}
        try:
            services.save_billing_profile(tenant=tenant, by=request.membership, **values)
        except ValidationError as error:
            form.add_error(None, list(error.messages))
        else:
            messages.success(request, _("Saved. Invoices from now on say this."))
            return redirect("dashboard:plan", slug=tenant.slug)
    context = {"form": form, "identity": billing_identity(tenant)}
    return render(
        request,
        "dashboard/money/profile.html",
        context,
        status=422 if form.is_bound else 200,
    )


@page(may=May.PAY_INVOICES, methods=("POST",), when_closed=True)
def payment_method(request: PageRequest) -> HttpResponse:
    """Ask the provider for its page, and show the way there: a form may not redirect to another
    host. With `refresh` ask what was left there."""
    chosen, tenant = provider(), request.tenant
    if not chosen.is_automatic:
        messages.info(request, _("Invoices are paid by transfer here."))
        return redirect("dashboard:plan", slug=tenant.slug)
    try:
        if "refresh" in request.POST:
            known = ProviderCustomer.objects.filter(tenant=tenant, provider=chosen.name).first()
            if known is not None:
                customers.refresh_method(chosen, known)
            return redirect("dashboard:plan", slug=tenant.slug)
        address = customers.setup_method(chosen, tenant)
    except ProviderError:
        messages.error(
            request, _("The payment provider does not answer. Nothing was changed; try again.")
        )
        return redirect("dashboard:plan", slug=tenant.slug)
    context = {"address": address, "provider": chosen.name.title()}
    return render(request, "dashboard/money/payment_method.html", context)
