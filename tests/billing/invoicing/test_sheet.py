"""What a person reads: one view, drawn as HTML and as the same bytes of PDF."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fpdf import FPDF

from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.documents import render_html, render_pdf
from billing.invoicing.pdf import MISSING, draw
from billing.invoicing.sheet import Row, Sheet, money, number, sheet_of
from billing.models import Invoice, Seller
from billing.rating.prices import Graduated, Tier
from billing.rating.segments import PlanSpan
from tenants.models import APIKey, BillingProfile
from tests.billing.invoicing.books import NOVEMBER, OCTOBER, PlainBook, growth, use
from tests.tenants.cast import Cast

AT = datetime(2026, 11, 4, tzinfo=UTC)
CHANGED = datetime(2026, 10, 11, 12, tzinfo=UTC)


@pytest.fixture
def invoice(cast: Cast, key: APIKey, book: PlainBook) -> Invoice:
    """A change of plan, tiers, and a customer abroad who owes the tax."""
    small = growth()
    tiers = Graduated((Tier(100, Decimal("0.10")), Tier(None, Decimal("0.05"))))
    meter = replace(small.meters[0], pricing=tiers)
    large = replace(small, code="scale", name="Scale", fee=Decimal(310), meters=(meter,))
    book.plans = [PlanSpan(small, OCTOBER, CHANGED), PlanSpan(large, CHANGED)]
    BillingProfile.objects.create(
        tenant=cast.acme,
        legal_name="Acme <b>Łódź</b>",
        address_line1="ul. Piotrkowska 12",
        postal_code="90-001",
        city="Łódź",
        country="PL",
        tax_id="PL123",
        reverse_charge_text="Reverse charge: the customer owes the tax.",
    )
    Seller.objects.create(
        name="Relay Works", payment_instructions="IBAN DE00", address="Street 1\nBerlin"
    )
    use(key, NOVEMBER - timedelta(hours=1), 350)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme)


def row(sheet: Sheet, name: str) -> Row:
    return next(row for row in sheet.rows if row.name == name)


def test_what_it_says(invoice: Invoice) -> None:
    sheet = sheet_of(invoice)
    assert sheet.buyer == (
        *("Acme <b>Łódź</b>", "ul. Piotrkowska 12", "90-001 Łódź", "PL"),
        "Tax id PL123",
    )
    assert len(sheet.segments) == 2
    assert row(sheet, "Scale").details[0].text == (
        "11 Oct 2026 12:00:00 to 1 Nov 2026: 1,771,200 of 2,678,400 s of 310.00"
    )
    assert row(sheet, "Scale").amount == "205.00"
    usage = row(sheet, "Messages")
    assert (usage.quantity, usage.amount) == ("350 messages", "17.50")
    assert [detail.text for detail in usage.details] == [
        "100 of 100 included",
        "from 0 to 100: 100 at 0.1 USD per message",
        "from 100 on: 150 at 0.05 USD per message",
    ]
    assert sheet.notes == ("Reverse charge: the customer owes the tax.",)
    assert sheet.payment == ("IBAN DE00", f"Please quote {invoice.number} with your payment.")


def test_html_escapes_what_others_wrote(invoice: Invoice) -> None:
    html = render_html(invoice)
    assert "Acme &lt;b&gt;Łódź&lt;/b&gt;" in html
    assert "<b>" not in html


def test_the_same_sheet_is_the_same_bytes(invoice: Invoice) -> None:
    assert render_pdf(invoice) == render_pdf(Invoice.objects.get(pk=invoice.pk))


def test_without_fonts_letters_are_missing_and_it_says_so(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FPDF, "output", _uncompressed(FPDF.output))
    plain = draw(sheet_of(invoice), dated=AT, fonts=())
    assert b"(Acme <b>??d?</b>)" in plain.replace(b"\xf3", b"?")
    assert MISSING[:20].encode() in plain
    whole = draw(sheet_of(invoice), dated=AT)
    assert b"Helvetica" in plain
    assert b"Helvetica" not in whole


def _uncompressed(output: Any) -> Any:
    def plainly(page: FPDF) -> Any:
        page.set_compression(False)
        return output(page)

    return plainly


def test_a_long_invoice_has_more_pages(invoice: Invoice) -> None:
    sheet = sheet_of(invoice)
    long = replace(sheet, rows=sheet.rows * 40)
    pages = [len(re.findall(rb"/Type /Page\b", draw(one, dated=AT))) for one in (sheet, long)]
    assert pages[0] == 1
    assert pages[1] > 3


def test_numbers_are_written_out() -> None:
    assert (money(Decimal("-1234.5")), money(Decimal(0))) == ("−1,234.50", "0.00")
    assert (number("1000000.5000"), number("100"), number("0.000005")) == (
        *("1,000,000.5", "100"),
        "0.000005",
    )
