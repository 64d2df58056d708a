"""`load_plans` and `show_plans`: a price book is published once."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from billing.catalogue import terms
from billing.catalogue.load import load_first
from billing.catalogue.publish import publish_plan_version
from billing.models import AddOn, PlanVersion
from billing.rating import seed
from billing.rating.document import write
from tenants import services as tenants
from tenants.models import Plan, Quota

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_twice_is_once() -> None:
    assert "10 would be published" in run("load_plans", "--dry-run")
    assert not PlanVersion.objects.exists()
    assert "10 published, 0 as they were" in run("load_plans")
    published, book = terms.catalogue(), seed.load()
    for plan in book.plans:
        assert published.plan(plan.code, plan.effective_from) == plan
    for add_on in book.add_ons:
        assert published.add_on(add_on.code, add_on.effective_from) == add_on
    assert Quota.objects.count() == Plan.objects.count() == 8
    before = list(PlanVersion.objects.values())
    assert "0 published, 10 as they were" in run("load_plans")
    assert list(PlanVersion.objects.values()) == before


def test_what_is_published_with_other_prices_is_refused_and_nothing_else_published(
    tmp_path: Path,
) -> None:
    run("load_plans")
    AddOn.objects.all()
    book = tmp_path / "book.json"
    other = write(seed.load()).replace('"fee": "49"', '"fee": "48"').replace("books-10", "novel")
    book.write_text(other)
    with pytest.raises(CommandError, match="starter: version 1 is published with other prices"):
        run("load_plans", str(book))
    assert not Plan.objects.filter(code="novel").exists()


def test_what_is_no_book(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        run("load_plans", str(tmp_path / "none.json"))
    book = tmp_path / "book.json"
    book.write_text('{"format": 1, "plans": [{"code": "x"}]}')
    with pytest.raises(CommandError, match=r"plans\[0\]"):
        run("load_plans", str(book))


def test_the_first_book_is_published_once() -> None:
    book = seed.load()
    assert [row.state for row in load_first(book, by="first start")] == ["new"] * 10
    assert PlanVersion.objects.filter(published_by="first start").count() == 8
    before = list(PlanVersion.objects.values())
    assert load_first(book, by="first start") == []
    assert list(PlanVersion.objects.values()) == before


def test_no_first_book_where_an_operator_has_begun() -> None:
    Plan.objects.create(code="demo", name="Of no book")
    hand_made = Plan.objects.create(code="free", name="Ours")
    assert load_first(seed.load(), by="first start") == []
    hand_made.delete()
    publish_plan_version(dataclasses.replace(seed.load().plans[0], code="own"))
    assert load_first(seed.load(), by="first start") == []
    assert PlanVersion.objects.count() == 1


def test_showing_them() -> None:
    run("load_plans")
    tenants.create_tenant(name="Ada", plan=Plan.objects.get(code="growth"))
    line = next(line for line in run("show_plans").splitlines() if "growth" in line)
    assert line.startswith("* growth")
    assert "299 / month" in line
    assert "1 tenants" in line
