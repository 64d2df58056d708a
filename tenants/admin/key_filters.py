"""Which keys a list shows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tenants.models import APIKey, APIKeyQuerySet


class KeyStateFilter(admin.SimpleListFilter):
    """What a key opens now, and why not."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("usable", "usable"),
            ("ending", "ends within 7 days"),
            ("rotated", "has a successor"),
            ("expired", "expired"),
            ("revoked", "revoked"),
            ("suspended", "tenant suspended"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> QuerySet[APIKey]:
        now = timezone.now()
        match self.value():
            case "usable":
                return cast(APIKeyQuerySet, queryset).usable(now)
            case "ending":
                soon = (now, now + timedelta(days=7))
                return queryset.filter(revoked_at=None, expires_at__range=soon)
            case "rotated":
                return queryset.exclude(rotated_at=None)
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=now)
            case "revoked":
                return queryset.exclude(revoked_at=None)
            case "suspended":
                return queryset.exclude(tenant__suspended_at=None)
        return queryset


class LastUseFilter(admin.SimpleListFilter):
    """Keys that nobody would miss."""

    title, parameter_name = "last used", "used"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "within a day"), ("30", "not for 30 days"), ("never", "never")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> QuerySet[APIKey]:
        now = timezone.now()
        match self.value():
            case "1":
                return queryset.filter(last_used_at__gte=now - timedelta(days=1))
            case "30":
                return queryset.filter(last_used_at__lt=now - timedelta(days=30))
            case "never":
                return queryset.filter(last_used_at=None)
        return queryset
