"""The button that opens a customer's pages to an operator who may look, for a reason."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.people import looking


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(max_length=looking.MAX_REASON_CHARS, widget=UnfoldAdminTextInputWidget)


class LookingAdmin(ModelAdmin):
    """A tenant's page with the button."""

    actions_detail = ("view_as_customer",)

    def has_view_as_customer_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Whether this operator may look."""
        return looking.may_view(request.user)  # type: ignore[arg-type]

    @action(
        description="View as customer",
        url_path="view-as-customer",
        permissions=["view_as_customer"],
    )
    def view_as_customer(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, and lead to the customer's overview."""
        tenant = self.get_object(request, object_id)
        if tenant is None:
            raise Http404
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                view = looking.begin_view(
                    tenant,
                    operator=request.user,  # type: ignore[arg-type]
                    reason=form.cleaned_data["reason"],
                )
            except ValidationError as error:
                form.add_error("reason", list(error.messages))
            else:
                request.session[looking.SESSION] = view.pk
                return HttpResponseRedirect(
                    reverse("dashboard:overview", kwargs={"slug": tenant.slug})
                )
        context = {"title": f"View as {tenant}", "tenant": tenant, "form": form}
        return TemplateResponse(
            request,
            "admin/tenants/tenant/view_as_customer.html",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )
