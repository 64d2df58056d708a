"""Settings: name and support contact, terms, taking everything out, and closing the account."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from django import forms
from django.conf import settings as configured
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway.account import money, plans
from gateway.account.export import export, export_name
from gateway.dashboard.access import PageRequest, page, refused
from gateway.dashboard.downloads import download
from tenants.models import APIKey, Tenant, TermsAcceptance
from tenants.people import closing, selectors, services
from tenants.people.roles import May, may
from tenants.services import update_tenant


class TenantForm(forms.ModelForm):
    """What an account says of itself; its short name is in addresses, and stays."""

    class Meta:
        model = Tenant
        fields = ("name", "support_name", "support_email", "support_phone")
        labels = {
            "name": gettext_lazy("Name"),
            "support_name": gettext_lazy("Support contact"),
            "support_email": gettext_lazy("Support e-mail"),
            "support_phone": gettext_lazy("Support phone"),
        }
        help_texts = {"support_name": gettext_lazy("Whom our support asks for.")}


@page(may=May.EDIT_TENANT, methods=("GET", "HEAD", "POST"))
def settings(request: PageRequest) -> HttpResponse:
    """The form, the terms, the way out."""
    tenant = Tenant.objects.get(pk=request.tenant.pk)  # not the one that the frame shows
    form = TenantForm(request.POST or None, instance=tenant)
    if request.method == "POST" and form.is_valid():
        try:
            update_tenant(tenant)
        except ValidationError as error:
            form.add_error(None, list(error.messages))
        else:
            messages.success(request, _("Saved."))
            return redirect("dashboard:settings", slug=tenant.slug)
    role = request.membership.role
    context = {
        "form": form,
        "in_force": configured.RELAY_TERMS_VERSION,
        "terms_url": configured.RELAY_TERMS_URL,
        "accepted": selectors.accepted_terms(tenant.pk),
        "acceptances": TermsAcceptance.objects.for_tenant(tenant.pk).select_related("user")[:20],
        "may_accept": may(role, May.ACCEPT_TERMS),
        "may_close": may(role, May.DELETE_TENANT),
    }
    status = 422 if form.is_bound else 200
    return render(request, "dashboard/people/settings.html", context, status=status)


@page(may=May.ACCEPT_TERMS, methods=("POST",))
def accept_terms(request: PageRequest) -> HttpResponse:
    """Accept the terms of the version that was shown."""
    try:
        services.accept_terms(
            by=request.membership,
            version=request.POST.get("version", ""),
            from_address=request.META.get("REMOTE_ADDR"),
        )
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, _("The terms are accepted."))
    return redirect("dashboard:settings", slug=request.tenant.slug)


@page(may=May.EDIT_TENANT)
def take_out(request: PageRequest) -> HttpResponse:
    """All that the account has, as a ZIP; not for who only looks at a customer's pages."""
    if getattr(request, "customer_view", None) is not None:
        return refused(request, _("Only the account's own people take it all out."))
    tenant, now = request.tenant, timezone.now()
    return download(request, export(tenant, now=now), export_name(tenant, now), "application/zip")


@page(may=May.DELETE_TENANT, methods=("GET", "HEAD", "POST"))
def close(request: PageRequest) -> HttpResponse:
    """What closing the account does; posted with its short name, it is done. Whoever signed in a
    while ago proves again who they are first."""
    tenant = request.tenant
    here = reverse("dashboard:close", kwargs={"slug": tenant.slug})
    if not did_recently_reauthenticate(request):
        return redirect(f"{reverse('account_reauthenticate')}?{urlencode({'next': here})}")
    problem = ""
    if request.method == "POST":
        try:
            closing.close_tenant(tenant, typed=request.POST.get("typed", ""), by=request.membership)
        except ValidationError as error:
            problem = " ".join(error.messages)
        else:
            messages.success(request, _("The account is closed."))
            return redirect("dashboard:overview", slug=tenant.slug)
    context: dict[str, Any] = {
        "problem": problem,
        "keys": APIKey.objects.for_tenant(tenant).filter(revoked_at=None).count(),
        "running": plans.running(tenant),
        "balance": money.balance(tenant),
        "wallet": money.wallet(tenant),
    }
    status = 422 if problem else 200
    return render(request, "dashboard/people/close.html", context, status=status)
