"""Lists of the admin whose tables have millions of rows: nothing on them reads a whole table."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import DateTimeField, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

from tenants.models import Tenant

#: Rows that are counted, and leafed through. Who wants to see others narrows the list.
COUNTED = 10_000
#: Tenants that one search can mean.
TENANTS_FOUND = 100


class BoundedCount(int):
    """A count that says when there may be more."""

    def __str__(self) -> str:
        return f"{COUNTED:,} or more" if self >= COUNTED else f"{int(self):,}"


class BoundedPaginator(Paginator):
    """Pages of the first `COUNTED` rows: a COUNT(*) of a million rows would be most of the page's
    time."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if isinstance(rows, QuerySet):
            return BoundedCount(rows.order_by().values("pk")[:COUNTED].count())
        return len(rows)


class LongListAdmin(ModelAdmin):
    """A list that is read from an index and counted up to a bound. Give it an `ordering` that an
    index has, and filters that name no rows of other long tables."""

    show_full_result_count = False
    paginator = BoundedPaginator
    #: From a row to its tenant; the search then finds tenants first, in the short table.
    tenant_path = ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not self.tenant_path or not search_term:
            return super().get_search_results(request, queryset, search_term)
        wanted = Q(**{f"{self.tenant_path}__in": tenants_like(search_term)})
        for field in self.search_fields:
            if field.startswith("=") and _may_be(self.model, field[1:], search_term):
                wanted |= Q(**{field[1:]: search_term})
            elif not field.startswith(("=", self.tenant_path)):
                wanted |= Q(**{f"{field}__icontains": search_term})
        return queryset.filter(wanted), False


def _may_be(model: type[Model], column: str, text: str) -> bool:
    """Whether a column can hold a text: an id is no word, and asking for it would be an error."""
    if "__" in column:
        return True
    field: Any = model._meta.get_field(column)
    try:
        field.to_python(text)
    except ValidationError:
        return False
    return True


def tenants_like(text: str) -> list[int]:
    """The ids of tenants with this in name or slug; of many, the first by name."""
    found = Tenant.objects.filter(Q(name__icontains=text) | Q(slug__icontains=text))
    return list(found.values_list("pk", flat=True)[:TENANTS_FOUND])


class SinceFilter(admin.SimpleListFilter):
    """Since when, in place of a hierarchy of dates, which reads all of them for each page."""

    title, parameter_name = "since", "since"
    #: The column.
    path = ""
    HOURS = {"24h": 24, "7d": 24 * 7, "31d": 24 * 31, "92d": 24 * 92}
    NAMES = {"24h": "24 hours", "7d": "7 days", "31d": "31 days", "92d": "92 days"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.NAMES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        hours = self.HOURS.get(self.value() or "")
        if hours is None:
            return queryset
        since: Any = timezone.now() - timedelta(hours=hours)
        if not isinstance(queryset.model._meta.get_field(self.path), DateTimeField):
            since = _day(since)
        return queryset.filter(**{f"{self.path}__gte": since})


def since(column: str) -> type[SinceFilter]:
    """The filter of one column."""
    return type("SinceFilter", (SinceFilter,), {"path": column})


def _day(moment: datetime) -> Any:
    return moment.date()
