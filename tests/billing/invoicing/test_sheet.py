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
from billing.invoicing.pdf import FONTS, MISSING, draw
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
        "11 Oct 2026 12:00:00 to 1 Nov 2026: 20.5 of 31 days of 310.00"
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


def test_what_is_in_favour_is_said_in_full(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label as long as its cell, and no longer: fpdf would cut it at the amount."""
    for due, label, remark in (
        (Decimal("-12300000"), "In your favour", "settles your next invoices"),
        (Decimal(0), "Amount due", "Nothing is to be paid."),
    ):
        invoice.due = due
        sheet = sheet_of(invoice)
        assert sheet.due[0] == label
        assert remark in sheet.remarks[0]
        assert sheet.payment == ()
        page = FPDF()
        page.set_font("Helvetica", "B", 11)
        # Of DejaVu, which is wider, with the cell's padding.
        assert page.get_string_width(label) * 1.25 + 2 < 170 * 0.4


def pages(body: bytes) -> list[str]:
    """The text operators of each page of a PDF that is not compressed."""
    return [part.decode("latin-1") for part in re.findall(rb"stream\n(.*?)endstream", body, re.S)]


def test_long_invoices_keep_together_what_belongs_together(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FPDF, "output", _uncompressed(FPDF.output))
    sheet = sheet_of(invoice)
    plain = replace(sheet.rows[0], name="Work", details=())
    for count in range(24, 64):
        rows = tuple(replace(plain, name=f"Work no. {n}") for n in range(1, count + 1))
        drawn = pages(draw(replace(sheet, rows=rows), dated=AT, fonts=()))
        found = [page for page in drawn if "Work no." in page]
        assert all("(Description)" in page for page in found)
        last = found[-1]
        # The totals and how to pay are never without the last line.
        assert f"Work no. {count})" in last
        assert "(Amount due)" in last
        assert "(How to pay)" in last
        for place, page in enumerate(found, start=1):
            assert f"page {place} of" in page
            assert ("Plan, continued" in page) == (place > 1)


def test_a_long_name_is_within_its_page(invoice: Invoice) -> None:
    name = "Société " * 40
    sheet = replace(sheet_of(invoice), seller_name=name, footer="HRB 1", buyer=(name, "x" * 300))
    assert draw(sheet, dated=AT).startswith(b"%PDF")


def test_fonts_are_read_only_for_letters_that_need_them(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    kept = FPDF.add_font

    def note(page: FPDF, family: str, style: str, path: str) -> None:
        read.append(path)
        kept(page, family, style, path)

    monkeypatch.setattr(FPDF, "add_font", note)
    fonts = (FONTS[0], FONTS[0])
    draw(sheet_of(invoice), dated=AT, fonts=fonts)
    assert len(read) == 2
    draw(replace(sheet_of(invoice), buyer=("東京",)), dated=AT, fonts=fonts)
    assert len(read) == 6
