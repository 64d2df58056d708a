"""Exports in the admin: chosen rows from a list, and a page with a period's files and reports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action

from billing.exports import catalogue, csv
from billing.exports.csv import Column
from billing.exports.scope import Row, Scope, parse_period

#: The reports that are tables on the page, and of how many tenants: the file has all.
TABLES = ("ageing", "wallets", "deferred")
SHOWN = 200


def download(request: HttpRequest, blocks: Iterator[bytes], name: str) -> StreamingHttpResponse:
    """A CSV file that is sent while it is made."""
    # Under ASGI, Django would collect a plain iterator into a list before it sent any of it.
    body: Any = _one_by_one(blocks) if isinstance(request, ASGIRequest) else blocks
    response = StreamingHttpResponse(body, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


async def _one_by_one(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(lambda: next(blocks, None))
    while (block := await take()) is not None:
        yield block


class ExportingAdmin(ModelAdmin):
    """A list whose rows can be exported: those that are chosen, or with "select all", all that the
    filters let through."""

    export_name: str
    export_columns: tuple[Column, ...]
    export_rows: Callable[[Any], Iterator[Row]]

    @admin.action(description="Export as CSV", permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Any]) -> StreamingHttpResponse:
        """The rows of the list that have a number, as they stand in the period's file."""
        chosen = self.export_rows(queryset)
        return download(request, csv.encode(self.export_columns, chosen), f"{self.export_name}.csv")


class FinancePages(ModelAdmin):
    """The page of a period: its files, the ageing, and the roll-forwards."""

    actions_list = ("finance",)

    @action(description="Finance", url_path="finance", permissions=["view"])
    def finance(self, request: HttpRequest) -> HttpResponse:
        """The files of a period that this operator may have, and one report as a table."""
        problem = ""
        try:
            scope = parse_period(request.GET.get("period") or latest_month())
        except ValueError as error:
            problem, scope = str(error), parse_period(latest_month())
        files = {
            name: one.title
            for name, one in catalogue.EXPORTS.items()
            if request.user.has_perms(one.permissions)
        }
        shown = request.GET.get("report") or next((n for n in TABLES if n in files), "")
        if shown and (shown not in TABLES or shown not in files):
            raise PermissionDenied
        response = TemplateResponse(
            request,
            "admin/billing/invoice/finance.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": f"Finance of {scope}",
                "period": str(scope),
                "problem": problem,
                "files": files,
                "reports": {name: files[name] for name in TABLES if name in files},
                "shown": shown,
                **(table(shown, scope) if shown else {}),
            },
        )
        response["Cache-Control"] = "no-store"
        return response

    def get_urls(self) -> list[URLPattern]:
        own = path(
            "finance/<str:name>.csv",
            self.admin_site.admin_view(self.export_view),
            name="billing_finance_export",
        )
        return [own, *super().get_urls()]

    def export_view(self, request: HttpRequest, name: str) -> HttpResponse | StreamingHttpResponse:
        """A period's file."""
        found = catalogue.EXPORTS.get(name)
        if found is None:
            raise Http404
        if not request.user.has_perms(found.permissions):
            raise PermissionDenied
        try:
            scope = parse_period(request.GET.get("period", ""))
        except ValueError as error:
            return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
        return download(
            request, catalogue.export(name, scope), catalogue.file_name(name, str(scope))
        )


def latest_month() -> str:
    """The month that ended last: `2026-11`."""
    return f"{timezone.now().replace(day=1) - timedelta(days=1):%Y-%m}"


def table(name: str, scope: Scope) -> dict[str, Any]:
    """A report for the page: heads, the rows of the first tenants, and the sums of all."""
    found = catalogue.EXPORTS[name]
    rows: list[Row] = []
    sums = [Decimal("0.00")] * (len(found.columns) - 1)
    count = 0
    for row in found.rows(scope):
        count += 1
        sums = [a + b for a, b in zip(sums, row[1:], strict=True)]
        if count <= SHOWN:
            rows.append(row)
    heads = [column.name.replace("_", " ") for column in found.columns]
    return {"heads": heads, "rows": rows, "sums": sums, "more": max(0, count - SHOWN)}
