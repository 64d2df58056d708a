"""Cost rates, and the tenant's page with what other apps know of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from billing.catalogue import services as catalogue
from billing.models import PlanVersion
from gateway.backoffice.models import CostRate
from gateway.backoffice.tenant_page import TenantPage
from tenants import services
from tenants.admin.tenants import TenantAdmin
from tenants.models import Tenant


@admin.register(CostRate)
class CostRateAdmin(ModelAdmin):
    """What our traffic costs us, for the page of gross margins."""

    list_display = (
        *("effective_from", "egress_per_gb", "per_million_messages", "per_connection_hour"),
        *("fixed_per_month", "note"),
    )


admin.site.unregister(Tenant)


@admin.register(Tenant)
class CockpitTenantAdmin(TenantAdmin):
    """A tenant as the whole company sees it: above its form usage, plan, allowances, connections
    and what is done most often."""

    change_form_outer_before_template = "admin/backoffice/tenant.html"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        tenant = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if tenant is not None and request.method == "GET":
            context["panel"] = TenantPage(tenant, request.user).context()
        return super().change_view(request, object_id, form_url, context)

    @transaction.atomic
    def create(self, **values: Any) -> Tenant:
        """On the version of the plan that is in force, with its trial; on a plan without published
        prices as it is."""
        plan = values.pop("plan")
        if not PlanVersion.objects.filter(plan=plan).exists():
            return services.create_tenant(plan=plan, **values)
        tenant = services.create_tenant(plan=None, **values)
        try:
            catalogue.subscribe(tenant, plan=plan)
        except LookupError as error:  # none of its versions is in force yet
            raise ValidationError(f"{error.args[0]}.") from None
        return tenant
