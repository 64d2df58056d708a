"""Logos: kept once by their hash, refused in one line; invoices of before draw what they drew."""

from __future__ import annotations

import io
import random
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext
from PIL import Image

from billing.append_only import AppendOnlyError
from billing.invoicing import frozen, terms_port
from billing.invoicing.brand import KEPT, LogoError, inlined, keep, logo_of, read_logo
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.documents import render_pdf
from billing.invoicing.finalize import adds_up
from billing.invoicing.parties import seller, seller_copy
from billing.models import BrandAsset, Invoice, Seller
from tests.billing.invoicing.books import NOVEMBER, PlainBook
from tests.billing.invoicing.test_credit_laws import discount
from tests.tenants.cast import Cast

BEFORE = [("billing", "0011_spending_turns")]
_guards = import_module("billing.migrations.0006_invoices")


def picture(size: tuple[int, int] = (60, 20), format: str = "PNG", noise: bool = False) -> bytes:
    image = Image.new("RGB", size, "red")
    if noise:
        image = Image.frombytes("RGB", size, random.Random(1).randbytes(size[0] * size[1] * 3))
    body = io.BytesIO()
    image.save(body, format)
    return body.getvalue()


def test_what_is_taken() -> None:
    for format in ("PNG", "JPEG"):
        assert read_logo(picture(format=format)).startswith(b"\x89PNG")
    large = Image.open(io.BytesIO(read_logo(picture((4_000, 1_000)))))
    assert large.width <= KEPT[0]
    assert large.height <= KEPT[1]


@pytest.mark.parametrize(
    ("upload", "line"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no PNG or JPEG, .* save it as PNG"),
        (b"", "is no PNG or JPEG"),
        (picture()[:40], "is no PNG or JPEG"),
        (picture(format="GIF"), "is no PNG or JPEG"),
        (bytes(200_001), "200,001 bytes, at most 200,000 are taken: save it smaller"),
        (picture((4_001, 1)), "4,001 × 1 pixels, a side has at most 4,000: scale it down"),
        (
            picture((400, 300), "JPEG", noise=True),
            r"As PNG the logo has \d+,\d+ bytes, at most 200,000 are kept: use one with fewer",
        ),
    ],
)
def test_what_is_refused(upload: bytes, line: str) -> None:
    with pytest.raises(LogoError, match=line) as refused:
        read_logo(upload)
    assert "\n" not in str(refused.value)


def issue(cast: Cast) -> Invoice:
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme)


def test_invoices_name_it_and_do_not_hold_it(cast: Cast, book: PlainBook) -> None:
    Seller.objects.create(name="Relay Works", logo=keep(read_logo(picture())))
    keep(read_logo(picture()))
    asset = BrandAsset.objects.get()
    invoice = issue(cast)
    assert invoice.seller["logo_sha256"] == asset.sha256
    assert len(str(invoice.seller)) < 500
    Seller.objects.update(logo=None)
    assert b"/Subtype /Image" in render_pdf(invoice)
    for act in (asset.save, asset.delete, BrandAsset.objects.all().delete):
        with pytest.raises(AppendOnlyError):
            act()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        BrandAsset.objects.all()._raw_delete(BrandAsset.objects.db)
    with CaptureQueriesContext(connection) as seen:
        seller_copy(seller())
    assert len(seen) == 1  # the hash is in the seller's row


def test_invoices_of_before_draw_the_same_both_ways(committed_cast: Cast) -> None:
    leaves: Any = MigrationExecutor(connection).loader.graph.leaf_nodes()
    Seller.objects.create(name="Relay Works", logo=keep(read_logo(picture())))
    plain = PlainBook(discounts=[discount("plan_fee", 50, None)])
    with terms_port.use(plain):
        invoice = issue(committed_cast)
    nets = list(invoice.lines.order_by("place").values_list("net", flat=True))
    drawn, logo = render_pdf(invoice), logo_of(invoice.seller)
    before = {"seller": inlined(invoice.seller)}
    lines = list(invoice.lines.order_by("place"))
    sha256 = frozen._content_hash(invoice, lines, frozen._LINE_V1, before)
    try:
        MigrationExecutor(connection).migrate(BEFORE)
        refuse_change(invoice)
        with connection.schema_editor() as editor:
            _guards.unguard(None, editor)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE billing_invoice SET content_sha256 = %s WHERE id = %s",
                [sha256, invoice.pk],
            )
            cursor.execute("SELECT logo FROM billing_seller")
            assert cursor.fetchone() == (logo,)
            cursor.execute("SELECT seller FROM billing_invoice")
            assert all(logo in row[0] for row in cursor.fetchall())
        with connection.schema_editor() as editor:
            _guards.guard(None, editor)
    finally:
        MigrationExecutor(connection).migrate(leaves)
    refuse_change(invoice)
    found = Invoice.objects.get(pk=invoice.pk)
    assert found.seller == invoice.seller
    lines = list(found.lines.order_by("place"))
    assert [line.net for line in lines] == nets
    assert adds_up(found, lines)
    assert frozen.content_hash(found, lines) != found.content_sha256
    assert render_pdf(found) == drawn
    assert seller().logo == BrandAsset.objects.get()


def refuse_change(invoice: Invoice) -> None:
    with (
        pytest.raises(DatabaseError, match="final"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("UPDATE billing_invoice SET total = 0 WHERE id = %s", [invoice.pk])
