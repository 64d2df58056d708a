"""A tenant's terms on a page: what it chose, and its plan, which is changed after a look at what
that does to the invoice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.catalogue import services, terms
from billing.catalogue.preview import PlanChangePreview, preview_plan_change
from billing.invoicing.kinds import is_customer
from billing.models import PlannedChange, PlanVersion, TenantTerms
from tenants.models import Plan, PlanSubscription
from tenants.selectors import current_plan_subscription


class ChoicesForm(forms.ModelForm):
    """Overage and spend cap."""

    overage = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Use beyond the included is admitted and charged; otherwise refused.",
    )
    spend_cap = forms.DecimalField(
        required=False,
        min_value=Decimal(0),
        max_digits=12,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="What that may cost in a billing period, US dollars before discounts and tax; "
        "empty: no bound.",
    )

    class Meta:
        model = TenantTerms
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            choice = terms.timeline_of(self.instance.pk).choice_at(timezone.now())
            self.fields["overage"].initial = choice.overage
            self.fields["spend_cap"].initial = choice.spend_cap


class ChangePlanForm(forms.Form):
    """Which plan, and when."""

    plan = forms.ModelChoiceField(
        # Only with prices: what has none cannot be billed.
        queryset=Plan.objects.filter(Exists(PlanVersion.objects.filter(plan=OuterRef("pk")))),
        widget=UnfoldAdminSelectWidget,
        help_text="The version in force then.",
    )
    when = forms.ChoiceField(
        choices=[("now", "now"), ("period_end", "at the end of the billing period")],
        widget=UnfoldAdminSelectWidget,
    )


@admin.register(TenantTerms)
class TenantTermsAdmin(ModelAdmin):
    """What each tenant is billed by."""

    form = ChoicesForm
    list_display = ("name", "slug", "plan_now", "since", "planned")
    list_filter = ("kind",)
    search_fields = ("name", "slug")
    fields = ("overage", "spend_cap", "owes", "plan_now", "since", "period", "planned")
    readonly_fields = ("owes", "plan_now", "since", "period", "planned")
    actions_detail = ("change_plan",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        current = PlanSubscription.objects.current().select_related("plan")
        pending = PlannedChange.objects.filter(is_pending=True).select_related("plan")
        return (
            super()
            .get_queryset(request)
            .prefetch_related(
                Prefetch("plan_subscriptions", current, to_attr="current_ones"),
                Prefetch("planned_changes", pending, to_attr="pending_ones"),
            )
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="plan")
    def plan_now(self, tenant: Any) -> str:
        return next((f"{row.plan} v{row.version}" for row in tenant.current_ones), "none")

    @display(description="since")
    def since(self, tenant: Any) -> Any:
        return next((row.started_at for row in tenant.current_ones), None)

    @display(description="planned")
    def planned(self, tenant: Any) -> str:
        return next((str(row) for row in tenant.pending_ones), "")

    @display(description="is invoiced")
    def owes(self, tenant: Any) -> str:
        if is_customer(tenant.kind):
            return "yes"
        return f"no: {tenant.get_kind_display()}, metered only; no spend cap holds"

    @display(description="billing period")
    def period(self, tenant: Any) -> str:
        try:
            found = terms.period_of(tenant.pk, timezone.now())
        except terms.NoTerms:
            return "none: no plan with prices"
        return f"{found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Only what was changed on this page: somebody else may have changed the rest."""
        if "overage" in form.changed_data:
            services.choose_overage(obj, is_on=form.cleaned_data["overage"])
        if "spend_cap" in form.changed_data:
            services.set_spend_cap(obj, form.cleaned_data["spend_cap"])

    # --- change of plan: asked for, shown, confirmed ---

    @action(description="Change plan", url_path="change-plan", permissions=["change"])
    def change_plan(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant = self.get_object(request, object_id)
        if tenant is None:
            raise Http404
        form = ChangePlanForm(request.POST if request.method == "POST" else None)
        preview = None
        if form.is_valid():
            try:
                preview = self._preview(tenant, form)
                if request.POST.get("confirmed") == self._seen(tenant, preview):
                    return self._carry_out(request, tenant, form, preview)
                if "confirmed" in request.POST:
                    form.add_error(None, "The plan changed meanwhile: look at the figures again.")
            except ValidationError as error:
                form.add_error(None, list(error.messages))
            except LookupError as error:
                form.add_error("plan", str(error.args[0]) + ".")
        return self._page(request, tenant, form, preview)

    def _preview(self, tenant: Any, form: ChangePlanForm) -> PlanChangePreview:
        now = timezone.now()
        at = now if form.cleaned_data["when"] == "now" else terms.period_of(tenant.pk, now).end
        return preview_plan_change(tenant, form.cleaned_data["plan"], at, now=now)

    def _seen(self, tenant: Any, preview: PlanChangePreview) -> str:
        """What the one who confirms has seen: from which subscription to which version, and whether
        that is invoiced. Not the figures, which move with the clock and the use."""
        current = current_plan_subscription(tenant.pk)
        plan = preview.plan
        subscription = current.pk if current else 0
        return f"{subscription}:{plan.code}:{plan.version}:{preview.is_invoiced:d}"

    def _carry_out(
        self, request: HttpRequest, tenant: Any, form: ChangePlanForm, preview: PlanChangePreview
    ) -> HttpResponse:
        plan, version = form.cleaned_data["plan"], preview.plan.version
        if form.cleaned_data["when"] == "period_end":
            services.change_plan(tenant, plan=plan, version=version, at=preview.at)
        else:
            services.change_plan(tenant, plan=plan, version=version)
        text = f"{plan} version {version} from {preview.at:%Y-%m-%d %H:%M} UTC"
        self.log_change(request, tenant, f"Plan: {text}.")
        self.message_user(request, f"{tenant}: {text}.", level=messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:billing_tenantterms_change", args=[tenant.pk]))

    def _page(
        self,
        request: HttpRequest,
        tenant: Any,
        form: ChangePlanForm,
        preview: PlanChangePreview | None,
    ) -> HttpResponse:
        return TemplateResponse(
            request,
            "admin/billing/tenantterms/change_plan.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": f"Change the plan of {tenant}",
                "tenant": tenant,
                "current": current_plan_subscription(tenant.pk),
                "form": form,
                "preview": preview,
                "confirmed": self._seen(tenant, preview) if preview is not None else "",
            },
        )
