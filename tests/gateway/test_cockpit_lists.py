"""Every list of the admin asks the database as often for many rows as for few, whatever is
registered; and reads no long table whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import (
    CoinHour,
    CoinRollup,
    DailyRollup,
    LedgerEntry,
    LedgerSeal,
    MonthlyRollup,
    UsageBatch,
    UsageRollup,
)
from tenants.long_lists import COUNTED, BoundedPaginator, LongListAdmin
from tenants.models import Delivery, Notice, QuotaWarning
from tests.gateway.rows import make, unchecked
from tests.support.pages import without_frame

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_frameless")]

REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
#: Without rows of their own.
LIVE = {"nodes.OpenSession", "exchange.OrderTrace"}
#: Of one row, by a constraint.
SINGLE = {"billing.Seller"}
LONG = [
    UsageRollup, DailyRollup, MonthlyRollup, CoinRollup, CoinHour, LedgerEntry, LedgerSeal,
    UsageBatch, Notice, Delivery, QuotaWarning,
]  # fmt: skip


def list_of(model: type[models.Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.fixture
def _frameless() -> Iterator[None]:
    with without_frame():
        yield


def queries(operator: Client, url: str) -> list[str]:
    return ask(operator, url)[0]


def ask(operator: Client, url: str) -> tuple[list[str], str]:
    with CaptureQueriesContext(connection) as seen:
        page = operator.get(url)
    assert page.status_code == 200, url
    return [query["sql"] for query in seen], page.content.decode()


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_as_many_queries_for_many_rows(operator: Client, model: type[models.Model]) -> None:
    """A ModelAdmin that names a relation without selecting it asks once more for each row."""
    if model._meta.label in LIVE | SINGLE:
        assert operator.get(list_of(model)).status_code == 200
        return
    with unchecked():
        for _ in range(2):
            make(model)
        queries(operator, list_of(model))  # what is looked up once in a process
        few = queries(operator, list_of(model))
        for _ in range(10):
            make(model)
        many, page = ask(operator, list_of(model))
    shown = len(re.findall(r'name="_selected_action"', page))
    assert shown >= 12 or not admin.site._registry[model].actions or shown == 0
    assert len(many) <= len(few), "\n".join(sorted(set(many) - set(few))[:5])


@pytest.mark.parametrize("text", ["ada", "ada@acme.example", "'\"%\\", "x" * 3_000, "7"])
def test_whatever_is_searched_for_is_answered(operator: Client, text: str) -> None:
    for model in REGISTERED:
        if model._meta.label not in LIVE | SINGLE:
            answer = operator.get(list_of(model), {"q": text})
            assert answer.status_code == 200, (model._meta.label, text)


def _page(operator: Client, model: type[models.Model]) -> str:
    return operator.get(list_of(model)).content.decode()


@pytest.mark.parametrize("model", LONG, ids=lambda model: model.__name__)
def test_a_long_table_is_counted_up_to_a_bound(operator: Client, model: Any) -> None:
    owner = admin.site._registry[model]
    assert isinstance(owner, LongListAdmin)
    assert not owner.show_full_result_count
    assert issubclass(owner.paginator, BoundedPaginator)
    assert owner.date_hierarchy is None  # it reads every date for each page
    with unchecked():
        make(model)
    table = model._meta.db_table
    for sql in queries(operator, list_of(model)):
        is_whole = f"FROM `{table}`" in sql.replace('"', "`")
        if is_whole and re.search(r"COUNT\(|MIN\(|MAX\(|DISTINCT", sql):
            assert "LIMIT" in sql or "WHERE" in sql, sql


def test_the_bound_is_told(operator: Client) -> None:
    paginator = BoundedPaginator(range(3), 10)
    assert paginator.count == 3
    from tenants.long_lists import BoundedCount

    assert str(BoundedCount(COUNTED)) == "10,000 or more"
    assert str(BoundedCount(1_234)) == "1,234"


def test_a_search_finds_tenants_first(operator: Client) -> None:
    with unchecked():
        rows = [make(UsageRollup) for _ in range(3)]
    wanted = rows[1].tenant  # type: ignore[attr-defined]
    url = f"{list_of(UsageRollup)}?q={wanted.name}"
    assert len(re.findall('name="_selected_action"', operator.get(url).content.decode())) <= 1
    sql = "\n".join(queries(operator, url))
    assert "tenants_tenant" in sql
    found = operator.get(url).context["cl"].queryset
    assert [row.pk for row in found] == [rows[1].pk]
    assert not operator.get(f"{list_of(UsageRollup)}?q=nobody").context["cl"].queryset


def test_the_ledger_names_tenants(operator: Client) -> None:
    with unchecked():
        row: Any = make(LedgerEntry)
    page = _page(operator, LedgerEntry)
    assert row.account.tenant.name in page


def test_every_filter_opens(operator: Client) -> None:
    """With a value of each of its choices."""
    for model in REGISTERED:
        with unchecked():
            if model._meta.label not in LIVE | SINGLE:
                make(model)
        context = operator.get(list_of(model)).context
        if "cl" not in context:
            continue
        for spec in context["cl"].filter_specs:
            for choice in spec.choices(context["cl"]):
                if query := choice.get("query_string"):
                    assert operator.get(list_of(model) + query).status_code == 200, (model, query)


def test_warnings_at_any_percentage_are_found(operator: Client) -> None:
    """Each in one choice of the filter, whatever its tenant chose."""
    with unchecked():
        for percent in (1, 60, 75, 79, 99, 100, 149, 150, 1000):
            row: Any = make(QuotaWarning)
            QuotaWarning.objects.filter(pk=row.pk).update(threshold=percent)
    (spec,) = [
        spec
        for spec in operator.get(list_of(QuotaWarning)).context["cl"].filter_specs
        if spec.title == "percent"
    ]
    found = []
    for value, _ in spec.lookup_choices:
        rows = operator.get(f"{list_of(QuotaWarning)}?percent={value}").context["cl"].queryset
        found.append(sorted(rows.values_list("threshold", flat=True)))
    assert found == [[1, 60], [75, 79], [99], [100, 149], [150, 1000]]
