"""The operators' look at a customer's orders on their way: of the last day, read from Redis, a page
at a time, and never written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.cache import never_cache
from redis.exceptions import RedisError
from unfold.admin import ModelAdmin

from gateway.exchange import trace_selectors
from gateway.exchange.models import OrderTrace
from gateway.exchange.trace import STEPS
from gateway.exchange.trace_selectors import Shown
from tenants.models import APIKey, Tenant

ROWS = 100
#: Tenants to choose from: those that traded last.
TENANTS_SHOWN = 200
_MAX_CHARS = 40


@dataclass(frozen=True, slots=True)
class Row:
    """A trace as the list shows it; `took` are the steps' times, "–" where one is not known."""

    shown: Shown
    at: str
    took: list[str]


class NothingLike(ValueError):
    """What was asked for is nothing that a trace could have; one line."""


@admin.register(OrderTrace)
class OrderTraceAdmin(ModelAdmin):
    """Of one tenant, newest first, narrowed by key, coin or order."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [path("", view(never_cache(self.list_view)), name="exchange_ordertrace_changelist")]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """Without a tenant: which have any. A page looks at so many traces and no more."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        names = ("tenant", "key", "coin", "oid")
        asked = {name: request.GET.get(name, "").strip()[:_MAX_CHARS] for name in names}
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Order traces",
            "opts": self.opts,
            "asked": asked,
            "steps": STEPS,
        }
        try:
            context["tenants"] = _tenants(asked["tenant"])
            if asked["tenant"]:
                context |= _page(asked, request.GET.get("cursor", "")[:_MAX_CHARS])
        except NothingLike as error:
            context["problem"] = str(error)
        except (RedisError, OSError):
            context["problem"] = "Redis does not answer: the traces are not known."
        return TemplateResponse(request, "admin/exchange/ordertrace/list.html", context)


def _tenants(chosen: str) -> list[Tenant]:
    """Those with traces, whose last is the newest first; and the one that is chosen."""
    ids = trace_selectors.traced_tenants(limit=TENANTS_SHOWN)
    if (number := _number(chosen)) is not None and number not in ids:
        ids.append(number)
    rows = Tenant.objects.in_bulk(ids)
    return [rows[pk] for pk in ids if pk in rows]


def _page(asked: dict[str, str], cursor: str) -> dict[str, Any]:
    number = _number(asked["tenant"])
    tenant = None if number is None else Tenant.objects.filter(pk=number).first()
    if tenant is None:
        raise NothingLike("There is no such tenant.")
    key = None
    if asked["key"]:
        rows = APIKey.objects.for_tenant(tenant).filter(prefix__startswith=asked["key"])
        key = rows.order_by("pk").first()
        if key is None:
            raise NothingLike(f"{tenant} has no key whose prefix begins so.")
    oid = _number(asked["oid"])
    if asked["oid"] and oid is None:
        raise NothingLike("An order id is a whole number.")
    try:
        found = trace_selectors.traces(
            tenant, key=key, coin=asked["coin"], oid=oid, cursor=cursor, limit=ROWS
        )
    except ValueError:
        raise NothingLike("That page is none of this list's: begin again.") from None
    older = urlencode({**asked, "cursor": found.cursor}) if found.cursor else ""
    return {"rows": [_row(one) for one in found.rows], "older": older, "chosen": tenant, "key": key}


def _row(shown: Shown) -> Row:
    at = datetime.fromtimestamp(shown.trace.received_ms / 1e3, UTC)
    took = [shown.trace.took_ms(step) for step in STEPS]
    return Row(
        shown,
        f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}",
        ["–" if ms is None else f"{ms:,.1f}" for ms in took],
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
