"""Logos: kept once by their hash, refused in one line; invoices of before draw what they drew."""

from __future__ import annotations

import io
import random
from datetime import datetime, timedelta
from importlib import import_module

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from PIL import Image

from billing.append_only import AppendOnlyError
from billing.invoicing.brand import KEPT, LogoError, keep, read_logo
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.documents import render_pdf
from billing.invoicing.parties import seller, seller_copy
from billing.models import BrandAsset, Invoice, Seller
from tests.billing.invoicing.books import NOVEMBER, PlainBook
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


def issue(cast: Cast, end: datetime = NOVEMBER) -> Invoice:
    close_due_periods(end)
    finalize_due(end + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme, period_end=end)


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
