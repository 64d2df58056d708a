"""Operators take out what they may see; nobody else takes out anything."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.core.handlers.asgi import ASGIRequest
from django.test import Client
from django.utils import timezone

from billing.catalogue import wallet
from billing.exports import pages
from billing.exports.catalogue import EXPORTS, UnknownExport, export_for_tenant
from billing.invoicing import crediting, payments
from billing.models import Invoice
from tests.billing.exports.test_journal_laws import PAID_AT
from tests.tenants.cast import Cast

BASE = "/admin/billing/"


def read(response: Any) -> list[list[str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


def member(*permissions: str) -> Client:
    user = User.objects.create_user(f"with {len(permissions)}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def chosen(client: Client, name: str, *pks: int) -> Any:
    return client.post(f"{BASE}{name}/", {"action": "export", "_selected_action": list(pks)})


def test_chosen_rows(operator: Client, invoices: list[Invoice]) -> None:
    first, second = invoices
    note = crediting.credit(first, reason="=HYPERLINK(1)", by="op")
    payment = payments.record_payment(
        *(first.tenant, Decimal(5)), method="usdc", reference="0x1", received_at=PAID_AT
    )
    rows = read(chosen(operator, "invoice", second.pk, first.pk))
    assert [row[0] for row in rows] == ["number", str(first.number), str(second.number)]
    (_, credited) = read(chosen(operator, "creditnote", note.pk))
    assert credited[5] == "'=HYPERLINK(1)"
    assert read(chosen(operator, "payment", payment.pk))[1][5] == "0x1"
    response = chosen(operator, "invoice", first.pk)
    assert response["Content-Disposition"] == 'attachment; filename="invoices.csv"'
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("name", EXPORTS)
def test_who_may_take_what(name: str, operator: Client, invoices: list[Invoice]) -> None:
    url = f"{BASE}invoice/finance/{name}.csv?period=2026-11"
    assert read(operator.get(url))[0] == [column.name for column in EXPORTS[name].columns]
    codes = [permission.split(".")[1] for permission in EXPORTS[name].permissions]
    assert member(*codes, "view_seller").get(url).status_code == 200
    # One of what it needs is missing.
    assert member(*codes[1:]).get(url).status_code == 403
    assert Client().get(url).status_code == 302
    stranger = Client()
    stranger.force_login(User.objects.create_user("stranger"))
    assert stranger.get(url).status_code == 302


def test_strangers_and_wrong_names(operator: Client, invoices: list[Invoice]) -> None:
    url = f"{BASE}invoice/finance/"
    assert operator.get(f"{url}secrets.csv?period=2026-11").status_code == 404
    wrong = operator.get(f"{url}lines.csv?period=2026-13")
    assert (wrong.status_code, b"months 01 to 12" in wrong.content) == (400, True)
    nobody = member()
    assert nobody.get(url).status_code == 403
    assert chosen(nobody, "invoice", invoices[0].pk).status_code == 403
    assert member("view_invoice").get(f"{url}?report=wallets").status_code == 403
    assert member("view_invoice", "view_seller").get(f"{url}?report=../x").status_code == 403


def test_the_page_shows_reports(operator: Client, cast: Cast, invoices: list[Invoice]) -> None:
    wallet.enter(cast.acme, amount=Decimal("12.34"), kind="top_up")
    url = f"{BASE}invoice/finance/"
    assert "finance/" in operator.get(f"{BASE}invoice/").content.decode()
    page = operator.get(url + "?period=2026-12").content.decode()
    assert 'data-report="ageing"' in page
    # Four of 49.00, of two tenants: those of October were due on 18 November.
    assert "196.00" in page
    assert page.count("98.00") >= 2
    entered = f"?period={timezone.now():%Y-%m}&report=wallets"
    assert "12.34" in operator.get(url + entered).content.decode()
    assert operator.get(url + "?period=2026-11&report=deferred").status_code == 200
    assert "is no period" in operator.get(url + "?period=soon").content.decode()


def test_under_asgi_it_is_sent_block_by_block() -> None:
    request = ASGIRequest(
        {"type": "http", "method": "GET", "path": "/", "headers": []}, io.BytesIO()
    )
    made = []

    def blocks() -> Any:
        for n in range(3):
            made.append(n)
            yield b"%d" % n

    async def consume() -> list[tuple[bytes, int]]:
        response = pages.download(request, blocks(), "x.csv")
        return [(block, len(made)) async for block in response]

    assert async_to_sync(consume)() == [(b"0", 1), (b"1", 2), (b"2", 3)]


def test_a_tenant_gets_its_own(cast: Cast, invoices: list[Invoice]) -> None:
    payments.record_payment(
        cast.acme, Decimal(5), method="usdc", reference="0x1", received_at=PAID_AT, by="ada"
    )
    theirs = Invoice.objects.get(tenant=cast.other, number="INV-2026-000002")
    for name, one in EXPORTS.items():
        if not one.is_for_tenants:
            with pytest.raises(UnknownExport):
                export_for_tenant(cast.acme, name, "2026")
            continue
        data = b"".join(export_for_tenant(cast.acme, name, "2026"))
        assert theirs.number.encode() not in data, name  # type: ignore[union-attr]
        assert cast.other.slug.encode() not in data, name
        assert b"ada" not in data, name
    found = b"".join(export_for_tenant(cast.acme, "invoices", "2026")).decode()
    assert [str(row.number) in found for row in invoices] == [True, True]
