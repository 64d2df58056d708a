"""Invoices, credit notes, payments and files of one tenant, to the cent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.invoicing.documents import document
from billing.models import Invoice
from tenants.models import Tenant
from tenants.people.roles import Role
from tests.dashboard.books import customer_with_a_past
from tests.tenants.people import make_member, owner_of, signed_in

pytestmark = pytest.mark.django_db
MOST_QUERIES = 16


@pytest.fixture
def ada() -> Tenant:
    return customer_with_a_past()


@pytest.fixture
def client(ada: Tenant) -> Client:
    return signed_in(owner_of(ada).user)


def url(name: str, slug: str = "ada", **arguments: Any) -> str:
    return reverse(f"dashboard:{name}", kwargs={"slug": slug, **arguments})


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def invoices_of(tenant: Tenant) -> list[Invoice]:
    return list(Invoice.objects.filter(tenant=tenant).order_by("period_start"))


def test_the_list_says_what_is_open(ada: Tenant, client: Client) -> None:
    client.get(url("invoices"))
    with CaptureQueriesContext(connection) as seen:
        page = client.get(url("invoices")).content.decode()
    assert len(seen) <= MOST_QUERIES, len(seen)
    first, second = invoices_of(ada)
    assert first.number in page
    assert second.number in page
    assert "47.50 USD" in page  # 30.00 - 12.50 and 30.00
    partly = client.get(url("invoices") + "?state=partially_paid").content.decode()
    assert first.number in partly
    assert second.number not in partly
    assert b"No invoice in this state" in client.get(url("invoices") + "?state=paid").content
    assert client.get(url("invoices") + "?state=lost").status_code == 404
    assert client.get(url("invoices") + "?after=nonsense").status_code == 302


def test_an_invoice_as_it_was_sent(ada: Tenant, client: Client) -> None:
    first, _ = invoices_of(ada)
    page = client.get(url("invoice", number=first.number)).content.decode()
    assert "17.50 USD" in page
    assert "transfer of Ada" in page
    kept = document(first, "pdf")
    answer = client.get(url("invoice_file", number=first.number, format="pdf"))
    assert answer["Content-Type"] == "application/pdf"
    assert body(answer) == bytes(kept.body)
    lines = body(client.get(url("invoice_file", number=first.number, format="csv"))).decode()
    assert first.number in lines
    assert "30.00" in lines
    html = client.get(url("invoice_file", number=first.number, format="html"))
    assert "sandbox" in html["Content-Security-Policy"]
    assert client.get(url("invoice_file", number=first.number, format="exe")).status_code == 404


def test_payments_add_up(ada: Tenant, client: Client) -> None:
    page = client.get(url("payments")).content.decode()
    assert "20.00 USD" in page
    assert "12.50 USD" in page
    assert "7.50 USD" in page
    assert b"No credit notes" in client.get(url("credit_notes")).content


def test_the_files_of_a_period_are_its_own(ada: Tenant, client: Client) -> None:
    other = customer_with_a_past("Ben")
    answer = client.get(url("invoices_export") + "?what=invoices&period=2026")
    rows = body(answer).decode().splitlines()
    assert len(rows) == 3
    assert not [row for row in rows if str(invoices_of(other)[0].number) in row]
    assert Decimal("30.00") == invoices_of(ada)[0].total
    for bad in ("what=journal&period=2026", "what=invoices&period=13"):
        assert client.get(f"{url('invoices_export')}?{bad}").status_code == 302


def test_anothers_documents_do_not_exist(ada: Tenant, client: Client) -> None:
    theirs = invoices_of(customer_with_a_past("Ben"))[0].number
    for name, more in (("invoice", {}), ("invoice_file", {"format": "pdf"})):
        assert client.get(url(name, number=theirs, **more)).status_code == 404
    assert client.get(url("credit_note_file", number="CN-1", format="pdf")).status_code == 404


def test_developers_see_no_invoices(ada: Tenant, client: Client) -> None:
    dev = signed_in(make_member(ada, "dev", Role.DEVELOPER).user)
    first, _ = invoices_of(ada)
    for path in (url("invoices"), url("payments"), url("invoice", number=first.number)):
        assert dev.get(path).status_code == 403
