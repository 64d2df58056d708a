"""Files of a period: whole, the same each time, and tied to the books."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.catalogue import wallet
from billing.exports import deferred, files, journal, scope, summary
from billing.exports.accounts import movements
from billing.exports.catalogue import EXPORTS
from billing.exports.scope import parse_period
from billing.invoicing import crediting, payments
from billing.models import (
    CreditNoteLine,
    Invoice,
    InvoiceLine,
    InvoiceStanding,
    MonthlyRollup,
    WalletEntry,
)
from tenants.models import APIKey
from tests.billing.exports.conftest import WalletBook, close
from tests.billing.exports.test_journal_laws import PAID_AT
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, use
from tests.tenants.cast import Cast

HOUR = timedelta(hours=1)


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


def run(command: str = "export_invoices", **options: Any) -> str:
    told = io.StringIO()
    call_command(command, stdout=told, stderr=told, **options)
    return told.getvalue()


@pytest.fixture
def year(cast: Cast, book: WalletBook, key: APIKey) -> list[Invoice]:
    """Usage, a wallet, a payment, a credit note; October's and November's invoices of two."""
    use(key, NOVEMBER - HOUR, 150)
    wallet.enter(cast.acme, amount=Decimal(10), kind="top_up")
    close(NOVEMBER)
    use(key, NOVEMBER - HOUR, 7)
    use(key, DECEMBER - HOUR, 101, "trades")
    close(DECEMBER)
    first, second = Invoice.objects.filter(tenant=cast.acme).order_by("period_start")
    payments.record_payment(
        *(cast.acme, Decimal(60)),
        method="usdc",
        reference="=0x1",
        received_at=PAID_AT,
        invoice=first,
    )
    crediting.credit(second, reason="node\ndown, 😀", by="ada")
    return [first, second]


def test_a_period_in_a_folder(year: list[Invoice], tmp_path: Path) -> None:
    told = run(period=parse_period("2026"), out=tmp_path / "new" / "books")
    folder = tmp_path / "new" / "books"
    assert {path.name for path in folder.iterdir()} == {f"{name}-2026.csv" for name in EXPORTS}
    assert "invoices-2026.csv" in told
    invoices = read(folder / "invoices-2026.csv")
    assert [row["number"] for row in invoices] == [f"INV-2026-00000{n}" for n in (1, 2, 3, 4)]
    lines = read(folder / "lines-2026.csv")
    assert sum(Decimal(row["amount"]) for row in lines) == sum(
        Decimal(row["subtotal"]) for row in invoices
    )
    assert read(folder / "payments-2026.csv")[0]["reference"] == "'=0x1"
    assert read(folder / "credit_notes-2026.csv")[0]["reason"] == "node\ndown, 😀"
    units = sum(int(row["units"]) for row in read(folder / "usage-2026.csv"))
    assert units == 258 + sum(
        MonthlyRollup.objects.exclude(metric="messages").values_list("units", flat=True)
    )
    checks = read(folder / "summary-2026.csv")
    assert {row["is_equal"] for row in checks} == {"true"}
    assert "ledger" in {row["check"] for row in checks}
    journal_rows = read(folder / "journal-2026.csv")
    debits, credits = (
        sum(Decimal(row[side] or 0) for row in journal_rows) for side in ("debit", "credit")
    )
    assert debits == credits > 0


def test_the_same_bytes_again(
    year: list[Invoice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in pages of one row, and after the sums were made again."""
    run(period=parse_period("2026"), out=tmp_path / "a")
    for module in (scope, deferred):
        monkeypatch.setattr(module, "PAGE_DOCUMENTS", 1)
    monkeypatch.setitem(scope.pages.__kwdefaults__, "size", 1)  # type: ignore[arg-type]
    call_command("rebuild_rollups", stdout=io.StringIO())
    run(period=parse_period("2026"), out=tmp_path / "b")
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_one_file(year: list[Invoice], tmp_path: Path) -> None:
    run("export_journal", period=parse_period("2026-12"), out=tmp_path / "j.csv")
    # Issued in December: November's invoices.
    sales = [row for row in read(tmp_path / "j.csv") if row["journal"] == "sales"]
    assert {row["document"] for row in sales} == {"INV-2026-000003", "INV-2026-000004"}
    run(period=parse_period("2026-12"), out=tmp_path / "i.csv")
    assert len(read(tmp_path / "i.csv")) == 2
    with pytest.raises(CommandError, match="one file, for 2 exports"):
        run(period=parse_period("2026"), out=tmp_path / "x.csv", what=("lines", "taxes"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--period", "2026-13", "--out", "x"], "months 01 to 12"),
        (["--period", "soon", "--out", "x"], "write a month like 2026-11"),
        (["--period", "2026", "--out", "x", "--what", "money"], "is no export: there are invoices"),
        (["--period", "2026", "--out", "x", "--what", ","], "name one or more"),
    ],
)
def test_bad_arguments(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        call_command("export_invoices", *arguments)


@pytest.mark.django_db
def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="file") as refused:
        run(period=parse_period("2026"), out=tmp_path / "file")
    assert refused.value.returncode == 2


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert files.write_whole(out, [b"a", b"bc"]) == 3

    def broken() -> Any:
        yield b"d"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_whole(out, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert out.read_bytes() == b"abc"


def test_what_does_not_tie_is_told(year: list[Invoice], tmp_path: Path) -> None:
    """Wrong usage, by the ledger; a wallet's balance, by its entries."""
    MonthlyRollup.objects.filter(channel="trades").update(units=1)
    with pytest.raises(CommandError, match="does not tie: 1 differences") as refused:
        run(period=parse_period("2026"), out=tmp_path)
    assert refused.value.returncode == 1
    run(period=parse_period("2026"), out=tmp_path, skip_ledger=True)
    entry = WalletEntry.objects.first()
    WalletEntry.objects.bulk_create(
        [WalletEntry(tenant_id=entry.tenant_id, amount=5, kind="top_up", balance=99)]  # type: ignore[union-attr]
    )
    wrong = [
        c.name for c in summary.checks(parse_period("2026"), with_ledger=False) if not c.is_equal
    ]
    assert wrong == ["wallets", "wallets"]


def test_a_year_invoiced_ahead_is_earned_month_by_month(cast: Cast) -> None:
    """Such an invoice no plan makes yet, so it is written by hand."""
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    amount = Decimal("365.00")
    invoice = Invoice.objects.create(
        tenant=cast.acme,
        period_start=start,
        period_end=end,
        full_end=end,
        subtotal=amount,
        total=amount,
        due=amount,
    )
    line = InvoiceLine.objects.create(
        invoice=invoice,
        **{"place": 1, "kind": "plan_fee", "code": "year", "name": "Year", "quantity": 1},
        **{"amount": amount, "net": amount, "window_start": start, "window_end": end},
    )
    invoice.state, invoice.number, invoice.content_sha256 = "finalized", "INV-2025-000001", "0" * 64
    invoice.finalized_at = invoice.due_at = start + timedelta(hours=1)
    invoice.save()
    InvoiceStanding.objects.create(invoice=invoice, balance=amount, due_at=invoice.due_at)
    months = [parse_period(f"2025-{n:02}") for n in range(1, 13)]
    (january,) = deferred.rows(months[0])
    assert january[1:] == tuple(map(Decimal, ("0", "364.96", "0", "30.96", "334.00")))
    for month in months:
        moved = movements(journal.entries(month))
        assert moved["revenue_subscriptions"] == -(month.end - month.start).days
        assert all(check.is_equal for check in summary.checks(month, with_ledger=False))
    # Left in the course of the year: what was to come is given back, the rest is a return.
    note = crediting.credit(invoice, {line.pk: Decimal(300)}, reason="left", by="ada")
    assert note.issued_at is not None
    assert CreditNoteLine.objects.get().amount == 300
    assert all(check.is_equal for check in summary.checks(parse_period("2026")))


def test_pages_lose_nothing(year: list[Invoice]) -> None:
    """By any unique order, whatever the size of a page."""
    order = ("hour", "key_id", "metric", "channel", "zero_rated")
    from billing.models import UsageRollup

    whole = list(UsageRollup.objects.order_by(*order).values_list(*order, "units"))
    for size in range(1, len(whole) + 2):
        assert list(scope.paged(UsageRollup.objects.all(), order, ("units",), size=size)) == whole


def test_periods() -> None:
    december = parse_period("2026-12")
    assert (december.start, december.end) == (DECEMBER, datetime(2027, 1, 1, tzinfo=UTC))
    assert [str(parse_period(text)) for text in ("2026-12", "2026", "2026-01")] == [
        *("2026-12", "2026", "2026-01")
    ]
    for text in ("2026-1", "202611", "2026-11-01", "", "1999", "٢٠٢٦", "2026-00\n"):
        with pytest.raises(ValueError, match="is no period"):
            parse_period(text)
