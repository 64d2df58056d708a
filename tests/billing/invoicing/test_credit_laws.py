"""Whatever is credited in whatever parts: with the rest it is the invoice, net, tax and total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.invoicing import adjusting, crediting, parties
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.creditable import less, summed, within
from billing.invoicing.errors import InvoicingError
from billing.invoicing.frozen import is_credit_hash_of
from billing.models import CreditNote, CreditNoteLine, Invoice
from billing.rating.invoice import Tax
from billing.rating.money import rounded
from billing.rating.prices import Discount
from tenants.models import APIKey
from tests.billing.invoicing.books import NOVEMBER, OCTOBER, PlainBook, use
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)
ZERO = Decimal(0)


def discount(applies_to: str, percent: int | None, amount: Decimal | None) -> Discount:
    """For all of the time."""
    return Discount(
        code="off",
        name="Off",
        starts_at=OCTOBER,
        ends_at=None,
        percent=None if percent is None else Decimal(percent),
        amount=amount,
        applies_to=applies_to,
    )


def cents(least: int, most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(least, most).map(lambda n: Decimal(n) / 100)


DISCOUNTS = st.lists(
    st.builds(
        discount,
        st.sampled_from(["invoice", "plan_fee", "usage", "usage:messages"]),
        st.integers(1, 100),
        st.none(),
    )
    | st.builds(
        discount, st.sampled_from(["invoice", "plan_fee", "usage"]), st.none(), cents(1, 6000)
    ),
    max_size=3,
)
CORRECTIONS = st.lists(st.tuples(cents(-3000, 3000), st.booleans()), max_size=3)
PARTS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 100), st.booleans()), max_size=6)


def by_rate(rows: Iterable[tuple[Decimal, Decimal, Decimal]]) -> dict[Decimal, tuple[Any, Any]]:
    """Net and tax by the percent of the tax."""
    net: Counter[Decimal] = Counter()
    tax: Counter[Decimal] = Counter()
    for percent, amount, part in rows:
        net[percent] += amount  # type: ignore[assignment]
        tax[percent] += part  # type: ignore[assignment]
    return {percent: (net[percent], tax[percent]) for percent in net}


def told(notes: Iterable[CreditNote]) -> dict[Decimal, tuple[Any, Any]]:
    rows = CreditNoteLine.objects.filter(credit_note__in=notes)
    found = by_rate(rows.values_list("tax_percent", "amount", "tax"))
    return {percent: sums for percent, sums in found.items() if any(sums)}


def issue(book: PlainBook, cast: Cast, tax: Tax) -> Invoice:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parties, "tax_of", lambda _: tax)
        close_due_periods(NOVEMBER)
        finalize_due(NOVEMBER + GRACE)
    return Invoice.objects.get(tenant=cast.acme)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(
    discounts=DISCOUNTS,
    corrections=CORRECTIONS,
    percent=st.sampled_from(["0", "7.7", "19", "20"]),
    used=st.integers(0, 5_000),
    parts=PARTS,
)
def test_all_parts_are_the_whole(
    cast: Cast,
    key: APIKey,
    book: PlainBook,
    settings: Any,
    discounts: list[Discount],
    corrections: list[tuple[Decimal, bool]],
    percent: str,
    used: int,
    parts: list[tuple[int, int, bool]],
) -> None:
    with transaction.atomic():
        book.discounts = discounts
        for n, (amount, is_taxable) in enumerate(corrections):
            if amount:
                row = adjusting.propose(
                    cast.acme, amount, code=f"x{n}", name="X", is_taxable=is_taxable, by="ada"
                )
                adjusting.decide(row, approve=True, by="ben")
        if used:
            use(key, OCTOBER, used)
        invoice = issue(book, cast, Tax("VAT", Decimal(percent)))
        lines = list(invoice.lines.order_by("place"))
        assert sum(line.net for line in lines) == invoice.subtotal
        for which, share, is_rejected in parts:
            line = lines[which % len(lines)]
            amount = round(line.net * share / 100, 2)
            settings.RELAY_CREDIT_LIMIT = 0 if is_rejected else 1_000_000
            try:
                note = crediting.credit(invoice, {line.pk: amount}, reason="bad", by="ada")
            except InvoicingError:
                continue
            if is_rejected:
                crediting.reject_credit(note, by="ben")
        settings.RELAY_CREDIT_LIMIT = 1_000_000
        notes = CreditNote.objects.filter(invoice=invoice, state="issued")
        credited = sum(notes.values_list("total", flat=True), start=ZERO)
        # Below 0 what it charges was set off, and so is paid.
        charges = sum((line.net + line.tax for line in lines if line.net > 0), start=ZERO)
        assert 0 <= credited <= (invoice.total if invoice.total > 0 else charges)
        if credited < invoice.total:
            crediting.credit(invoice, reason="the rest", by="ada")
        if invoice.total > 0:
            assert sum(note.subtotal for note in notes) == invoice.subtotal
            assert sum(note.tax_total for note in notes) == invoice.tax_total
            assert sum(note.total for note in notes) == invoice.total
            whole = by_rate((line.tax_percent, line.net, line.tax) for line in lines)
            assert told(notes) == {rate: sums for rate, sums in whole.items() if any(sums)}
        for note in notes:
            assert note.total > 0
            if invoice.total > 0:
                net, tax = invoice.subtotal, invoice.tax_total
                assert min(net, ZERO) <= note.subtotal <= max(net, ZERO)
                assert min(tax, ZERO) <= note.tax_total <= max(tax, ZERO)
            assert is_credit_hash_of(note)
        transaction.set_rollback(True)


def test_half_of_what_a_discount_left_brings_half_of_the_tax(cast: Cast, book: PlainBook) -> None:
    book.discounts = [discount("plan_fee", 50, None)]
    invoice = issue(book, cast, Tax("VAT", Decimal(20)))
    line = invoice.lines.get(code="growth")
    assert (line.amount, line.net, line.tax) == tuple(map(Decimal, ("49", "24.50", "4.90")))
    with pytest.raises(InvoicingError, match=r"24\.50 can be credited, after discounts"):
        crediting.credit(invoice, {line.pk: Decimal("24.51")}, reason="bad", by="ada")
    off = invoice.lines.get(code="off")
    with pytest.raises(InvoicingError, match="nothing was paid for it"):
        crediting.credit(invoice, {off.pk: Decimal(1)}, reason="bad", by="ada")
    half = crediting.credit(invoice, {line.pk: Decimal("12.25")}, reason="bad", by="ada")
    assert (half.subtotal, half.tax_total) == (Decimal("12.25"), Decimal("2.45"))
    rest = crediting.credit(invoice, reason="bad", by="ada")
    assert (rest.subtotal, rest.tax_total) == (Decimal("12.25"), Decimal("2.45"))


def test_a_credit_on_the_invoice_is_not_credited_twice(cast: Cast, book: PlainBook) -> None:
    """49.00 and 30.00 in the customer's favour: 19.00 is what there is to credit."""
    row = adjusting.propose(cast.acme, Decimal(-30), code="x", name="X", is_taxable=False)
    adjusting.decide(row, approve=True, by="ben")
    invoice = issue(book, cast, Tax("VAT", Decimal(20)))
    line = invoice.lines.get(code="growth")
    with pytest.raises(InvoicingError, match="credit less of the line, or all that is left"):
        crediting.credit(invoice, {line.pk: Decimal(20)}, reason="bad", by="ada")
    crediting.credit(invoice, {line.pk: Decimal(10)}, reason="bad", by="ada")
    rest = crediting.credit(invoice, reason="bad", by="ada")
    assert (rest.subtotal, rest.tax_total) == (Decimal(9), Decimal("7.80"))


nets_of = import_module("billing.migrations.0014_what_was_paid_and_what_is_printed").nets_of


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(discounts=DISCOUNTS, percent=st.sampled_from(["0", "19"]), used=st.integers(0, 5_000))
def test_what_was_paid_is_found_again_for_invoices_of_before(
    cast: Cast,
    key: APIKey,
    book: PlainBook,
    discounts: list[Discount],
    percent: str,
    used: int,
) -> None:
    with transaction.atomic():
        book.discounts = discounts
        if used:
            use(key, OCTOBER, used)
        invoice = issue(book, cast, Tax("VAT", Decimal(percent)))
        lines = list(invoice.lines.order_by("place"))
        found = nets_of(
            [(one.kind, one.code, one.amount, one.tax_percent, one.tax, one.parts) for one in lines]
        )
        assert sum(found) == invoice.subtotal
        assert all(net >= 0 for net in found)
        for net, line in zip(found, lines, strict=True):
            assert rounded(net * line.tax_percent / 100) == line.tax
        transaction.set_rollback(True)


AMOUNTS = st.integers(0, 10_000).map(lambda n: Decimal(n) / 100)


@given(
    lines=st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=5),
    percent=st.sampled_from(["0", "19"]),
)
def test_credits_of_before_leave_no_more_than_the_rest(
    lines: list[tuple[Decimal, Decimal, Decimal]], percent: str
) -> None:
    """They were of amounts without discounts, so perhaps beyond the net of a line: what is left of
    all lines is what is left of the invoice all the same."""
    nets = [min(amount, net) for amount, net, _ in lines]
    taxes = [rounded(net * Decimal(percent) / 100) for net in nets]
    given = [
        (part, min(rounded(part * Decimal(percent) / 100), tax))
        for (amount, _, wanted), tax in zip(lines, taxes, strict=True)
        for part in [min(amount, wanted)]
    ]
    whole = summed(zip(nets, taxes, strict=True)) - summed(given)
    if whole.net < 0 or whole.tax < 0:
        return  # refused then: more than the invoice's total
    rows = [less(net, tax, [part]) for net, tax, part in zip(nets, taxes, given, strict=True)]
    left = within(rows, whole)
    assert summed((row.net_left, row.tax_left) for row in left) == whole
    assert all(row.net_left >= 0 and row.tax_left >= 0 for row in left)
