"""Incidents and announcements, written by operators; what was measured, to be read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, StackedInline

from gateway.operations import services, status
from gateway.operations.models import Announcement, Freshness, Incident, IncidentUpdate
from tenants.long_lists import LongListAdmin, since


class UpdateInline(StackedInline):
    """Updates are added, never changed: customers have read them."""

    model = IncidentUpdate
    extra = 1
    fields = ("state", "text")
    verbose_name = "update"

    def get_queryset(self, request: HttpRequest) -> QuerySet[IncidentUpdate]:
        return super().get_queryset(request).none()  # what was said is shown above, as text

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Incident)
class IncidentAdmin(ModelAdmin):
    """What the status page tells of incidents and maintenance."""

    list_display = ("title", "impact", "started_at", "resolved_at", "affects")
    list_filter = ("impact",)
    search_fields = ("title",)
    readonly_fields = ("said", "resolved_at")
    inlines = (UpdateInline,)

    @admin.display(description="said so far")
    def said(self, incident: Incident) -> str:
        if incident._state.adding:
            return "–"
        updates = incident.updates.all()
        lines = [
            f"{each.at:%Y-%m-%d %H:%M} {each.state} ({each.by}): {each.text}" for each in updates
        ]
        return "\n".join(lines) or "–"

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_formset(
        self, request: HttpRequest, form: forms.BaseForm, formset: Any, change: bool
    ) -> None:
        for update in formset.save(commit=False):
            services.add_update(
                form.instance,  # type: ignore[attr-defined]
                state=update.state,
                text=update.text,
                by=request.user.get_username(),
            )
        status.kept.forget()


@admin.register(Announcement)
class AnnouncementAdmin(ModelAdmin):
    """Shown to every customer while it lasts."""

    list_display = ("title", "level", "starts_at", "ends_at", "link")
    list_filter = ("level",)
    search_fields = ("title", "text")


@admin.register(Freshness)
class FreshnessAdmin(LongListAdmin):
    """What the status page's bars are made of."""

    list_display = ("subject", "span", "start", "looks", "fresh", "aged", "age_ms_max")
    list_filter = ("span", since("start"))
    search_fields = ("=subject",)
    show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
