"""Plans and their limits."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, StackedInline
from unfold.decorators import display

from tenants import services
from tenants.models import Plan, Quota


class QuotaInline(StackedInline):
    """The limits of a plan, on the plan's page."""

    model = Quota
    can_delete = False
    min_num = 1
    extra = 0


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    """Plans and their limits."""

    list_display = ("code", "name", "limits", "tenants_now", "is_active")
    list_filter = ("is_active",)
    search_fields = ("code", "name")
    inlines = (QuotaInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        now = Count("plan_subscriptions", filter=Q(plan_subscriptions__is_current=True))
        return super().get_queryset(request).select_related("quota").annotate(tenants_now=now)

    @display(description="limits")
    def limits(self, plan: Plan) -> str:
        return str(plan.quota) if hasattr(plan, "quota") else "none: nothing can be opened"

    @display(description="tenants", ordering="tenants_now")
    def tenants_now(self, plan: Any) -> int:
        return int(plan.tenants_now)

    def save_related(
        self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        services.announce_plan(form.instance)
