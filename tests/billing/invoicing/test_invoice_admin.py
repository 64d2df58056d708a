"""Operators look at invoices and book by actions that ask first; content nobody can post."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.invoicing import payments
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.dunning import dun, mark_overdue
from billing.invoicing.errors import InvoicingError
from billing.invoicing.sending import send, send_due
from billing.models import Adjustment, BrandAsset, Invoice, InvoiceLine, Payment, Seller
from tenants.models import BillingProfile
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook
from tests.tenants.cast import Cast

BASE = "/admin/billing/invoice/"


@pytest.fixture
def invoice(cast: Cast, book: PlainBook) -> Invoice:
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    close_due_periods(DECEMBER)
    return Invoice.objects.get(tenant=cast.acme, state="finalized")


def act(client: Client, action: str, *rows: Invoice, **answers: object) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows], **answers}
    return client.post(BASE, data, follow=True).content.decode()


def test_the_list_and_its_filters(operator: Client, invoice: Invoice) -> None:
    for standing, number in (("", 4), ("draft", 2), ("open", 2), ("paid", 0), ("overdue", 2)):
        page = operator.get(BASE, {"standing": standing} if standing else {}).content.decode()
        assert len(re.findall(r'name="_selected_action"', page)) == number, standing
    assert "INV-2026-000001" in operator.get(BASE + "?q=acme").content.decode()


def test_the_list_asks_a_fixed_number_of_queries(
    operator: Client, invoice: Invoice, book: PlainBook
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert operator.get(BASE).status_code == 200
        return len(seen)

    operator.get(BASE)
    before = queries()
    close_due_periods(DECEMBER + timedelta(days=70))
    finalize_due(DECEMBER + timedelta(days=70))
    assert queries() <= before


def test_the_list_reads_no_large_columns(operator: Client, invoice: Invoice) -> None:
    with CaptureQueriesContext(connection) as seen:
        assert operator.get(BASE).status_code == 200
    read = " ".join(query["sql"] for query in seen).replace("`", '"')
    assert '"billing_invoice"."number"' in read
    for column in ("seller", "buyer", "segments", "unmetered"):
        assert f'"billing_invoice"."{column}"' not in read


def test_an_action_asks_first_and_then_books(operator: Client, invoice: Invoice) -> None:
    draft = Invoice.objects.get(tenant=invoice.tenant, state="draft")
    assert "Finalize?" in act(operator, "finalize", draft)
    assert not Invoice.objects.get(pk=draft.pk).is_finalized
    act(operator, "refresh", draft, confirmed="yes")

    page = act(operator, "void", invoice, confirmed="yes", reason="")
    assert "This field is required" in page
    assert invoice.credit_notes.count() == 0
    payment = {"amount": "9.00", "method": "usdc", "reference": "0xabc", "note": ""}
    when = {"received_at_0": "2026-11-10", "received_at_1": "12:00:00"}
    act(operator, "record_payment", invoice, confirmed="yes", **payment, **when)
    assert Payment.objects.get().recorded_by == "op"
    assert invoice.standing.balance == Decimal(40)
    assert "9.00 of INV-2026-000001 is paid" in act(
        operator, "void", invoice, confirmed="yes", reason="wrong"
    )
    act(operator, "credit", invoice, confirmed="yes", reason="bad", line="1", amount="10.00")
    invoice.standing.refresh_from_db()
    assert invoice.standing.balance == Decimal(30)


def test_a_large_void_waits_and_says_so(operator: Client, invoice: Invoice, settings: Any) -> None:
    settings.RELAY_CREDIT_LIMIT = 40
    page = act(operator, "void", invoice, confirmed="yes", reason="wrong")
    assert "49.00 USD is above 40.00: somebody else than op with the right" in page
    assert invoice.standing.state == "open"
    note = invoice.credit_notes.get()
    url = "/admin/billing/creditnote/"
    row = {"action": "approve", "_selected_action": [note.pk], "confirmed": "yes"}
    assert (
        "change credit notes approves it" in operator.post(url, row, follow=True).content.decode()
    )
    second = Client()
    second.force_login(User.objects.create_superuser("ben", password="not used"))
    second.post(url, row)
    invoice.standing.refresh_from_db()
    assert invoice.standing.state == "voided"


def test_payments_are_used_and_refunded(operator: Client, invoice: Invoice) -> None:
    url = "/admin/billing/payment/"
    at = datetime(2026, 11, 10, tzinfo=UTC)
    payment = payments.record_payment(
        invoice.tenant, Decimal(60), method="usdc", reference="0x1", received_at=at
    )
    row = {"_selected_action": [payment.pk], "confirmed": "yes"}
    page = operator.post(url, {**row, "action": "allocate", "invoice": "INV-1"}, follow=True)
    assert "there is no invoice INV-1" in page.content.decode()
    operator.post(url, {**row, "action": "allocate", "invoice": invoice.number})
    assert payments.remainder(payment) == Decimal(11)
    refund = {"action": "refund", "amount": "11", "reason": "too much"}
    operator.post(url, {**row, **refund})
    assert payments.remainder(payment) == 0
    assert "11.00" in operator.get(f"{url}{payment.pk}/change/").content.decode()
    other = Invoice.objects.finalized().exclude(pk=invoice.pk).get()
    act(operator, "write_off", other, confirmed="yes", reason="insolvent")
    assert other.standing.state == "written_off"


def test_the_form_says_that_nothing_was_booked(operator: Client, invoice: Invoice) -> None:
    values = {
        "amount": "20.00",
        "method": "bank_transfer",
        "reference": "fee",
        "received_at_0": "2026-11-10",
        "received_at_1": "09:00:00",
        "confirmed": "yes",
    }
    assert "record payment: 1 done" in act(operator, "record_payment", invoice, **values).lower()
    again = act(operator, "record_payment", invoice, **values)
    assert "the very same: nothing was booked now" in again
    other = act(operator, "record_payment", invoice, **{**values, "amount": "21.00"})
    assert "is recorded already, as 20.00 of Acme" in other
    own = {**values, "amount": "21.00", "external_id": "E2"}
    assert "Record payment: 1 done" in act(operator, "record_payment", invoice, **own)
    assert sorted(Payment.objects.values_list("amount", flat=True)) == [20, 21]


def test_a_draft_is_not_written_off(operator: Client, invoice: Invoice) -> None:
    draft = Invoice.objects.get(tenant=invoice.tenant, state="draft")
    page = act(operator, "write_off", draft, confirmed="yes", reason="insolvent")
    assert "is not finalized: nothing is owed on it yet" in page


def test_what_is_void_is_drafted_again_and_discarded(operator: Client, invoice: Invoice) -> None:
    assert "is not void" in act(operator, "again", invoice, confirmed="yes")
    act(operator, "void", invoice, confirmed="yes", reason="wrong")
    act(operator, "again", invoice, confirmed="yes")
    event = invoice.events.get(kind="drafted_again")
    assert (event.actor, event.reason) == ("op", "sequence 2")
    draft = Invoice.objects.get(tenant=invoice.tenant, sequence=2)
    needed = Invoice.objects.get(tenant=invoice.tenant, state="draft", sequence=1)
    for row in (draft, needed):
        page = act(operator, "discard", row, confirmed="yes", reason="a mistake")
    assert "the draft of a period: it cannot be discarded" in page
    assert not Invoice.objects.filter(pk=draft.pk).exists()


def test_forged_posts_change_nothing(operator: Client, invoice: Invoice) -> None:
    assert operator.get(f"{BASE}{invoice.pk}/change/").status_code == 200
    assert operator.post(f"{BASE}{invoice.pk}/change/", {"total": "1"}).status_code == 403
    assert operator.post(f"{BASE}{invoice.pk}/delete/", {"post": "yes"}).status_code == 403
    assert operator.post(f"{BASE}add/", {}).status_code == 403
    forged = {"lines-0-amount": "1", "lines-TOTAL_FORMS": "1", "lines-INITIAL_FORMS": "1"}
    assert operator.post(f"{BASE}{invoice.pk}/change/", forged).status_code == 403
    act(operator, "delete_selected", invoice, post="yes")
    assert InvoiceLine.objects.filter(invoice=invoice, amount=49).exists()
    assert Invoice.objects.filter(pk=invoice.pk).exists()


def test_who_may_only_look_books_nothing(invoice: Invoice) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    assert client.get(BASE).status_code == 200
    act(client, "void", invoice, confirmed="yes", reason="wrong")
    assert invoice.credit_notes.count() == 0
    nobody = Client()
    nobody.force_login(User.objects.create_user("nobody", is_staff=True))
    assert nobody.get(f"{BASE}{invoice.pk}/document/pdf/").status_code == 403
    assert Client().get(f"{BASE}{invoice.pk}/document/pdf/").status_code == 302


def test_documents(operator: Client, invoice: Invoice) -> None:
    first = operator.get(f"{BASE}{invoice.pk}/document/pdf/")
    assert first.content.startswith(b"%PDF")
    assert operator.get(f"{BASE}{invoice.pk}/document/pdf/").content == first.content
    html = operator.get(f"{BASE}{invoice.pk}/document/html/").content.decode()
    assert "INV-2026-000001" in html
    assert operator.get(f"{BASE}{invoice.pk}/document/exe/").status_code == 404
    draft = Invoice.objects.get(tenant=invoice.tenant, state="draft")
    assert "Draft invoice" in operator.get(f"{BASE}{draft.pk}/document/html/").content.decode()


def test_the_other_pages_open(operator: Client, invoice: Invoice) -> None:
    for name in ("creditnote", "payment", "adjustment", "seller", "periodlock", "numberseries"):
        assert operator.get(f"/admin/billing/{name}/").status_code == 200
    for name in ("adjustment", "seller", "periodlock"):
        assert operator.get(f"/admin/billing/{name}/add/").status_code == 200


def test_an_adjustment_is_proposed_and_approved(operator: Client, invoice: Invoice) -> None:
    url = "/admin/billing/adjustment/"
    values = {"source": "one_off", "code": "setup", "name": "Setup", "amount": "100.00"}
    operator.post(f"{url}add/", {"tenant": invoice.tenant_id, "reason": "", **values})
    row = Adjustment.objects.get()
    assert (row.state, row.proposed_by) == ("proposed", "op")
    operator.post(url, {"action": "approve", "_selected_action": [row.pk], "confirmed": "yes"})
    row.refresh_from_db()
    assert row.state == "approved"


def test_a_lock_says_what_is_wrong_with_it(operator: Client, invoice: Invoice) -> None:
    values = {"until_0": "2031-01-01", "until_1": "00:00:00", "reason": "x"}
    page = operator.post("/admin/billing/periodlock/add/", values).content.decode()
    assert "in the future: lock what is over" in page


def test_invoices_are_mailed_once(
    invoice: Invoice, django_capture_on_commit_callbacks: object
) -> None:
    assert send_due() == 0  # nobody said where to
    with pytest.raises(InvoicingError, match="no invoice e-mail"):
        send(invoice)
    _address(invoice)
    assert (send_due(), send_due()) == (1, 0)
    assert mail.outbox[0].subject == "Invoice INV-2026-000001 from HL Relay"
    assert mail.outbox[0].attachments[0][1].startswith(b"%PDF")
    assert send(invoice, again=True)
    assert list(invoice.events.values_list("kind", flat=True)) == ["finalized", "sent", "resent"]


def _address(invoice: Invoice) -> None:
    BillingProfile.objects.create(
        tenant=invoice.tenant, legal_name="Acme Ltd", country="GB", invoice_email="ap@acme.example"
    )


def test_overdue_then_dunned_then_suspended(
    invoice: Invoice, django_capture_on_commit_callbacks: object
) -> None:
    _address(invoice)
    due = invoice.due_at
    assert due is not None
    assert send_due() == 1  # nobody knows where the other tenant's goes: it is not dunned for it
    mail.outbox.clear()
    assert mark_overdue(due) == 0
    assert (mark_overdue(due + timedelta(seconds=1)), mark_overdue(due + timedelta(days=1))) == (
        2,
        0,
    )
    assert dun(due + timedelta(days=3, seconds=-1)) == 0
    # The relay was down for a month: still a step at a time, at their distance.
    late = due + timedelta(days=40)
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        assert (dun(late), dun(late), dun(late + timedelta(days=7))) == (1, 0, 1)
    assert [message.subject for message in mail.outbox][:1] == [
        "Reminder: invoice INV-2026-000001 is overdue"
    ]
    assert not invoice.tenant.is_suspended
    assert dun(late + timedelta(days=27)) == 1
    invoice.tenant.refresh_from_db()
    assert invoice.tenant.is_suspended
    assert "INV-2026-000001 was due" in invoice.tenant.suspension_reason
    assert dun(late + timedelta(days=400)) == 0


def test_a_seller_is_one_row_with_a_logo(operator: Client, invoice: Invoice) -> None:
    import io

    from PIL import Image

    drawn = io.BytesIO()
    Image.new("RGB", (60, 20), "red").save(drawn, "PNG")
    drawn.seek(0)
    drawn.name = "logo.png"
    values = {"name": "Relay Works", "color": "#0f5c4d", "net_days": "14"}
    url = "/admin/billing/seller/"
    operator.post(f"{url}add/", {**values, "logo_file": drawn})
    asset = Seller.objects.get().logo
    assert asset is not None
    assert bytes(asset.body).startswith(b"\x89PNG")
    drawn.seek(0)
    operator.post(f"{url}1/change/", {**values, "logo_file": drawn})
    assert BrandAsset.objects.get() == asset  # kept once
    assert operator.get(f"{url}add/").status_code == 403
    bad = io.BytesIO(b"<svg onload=alert(1)>")
    bad.name = "logo.png"
    page = operator.post(f"{url}1/change/", {**values, "logo_file": bad}).content.decode()
    assert "The logo is no PNG or JPEG" in page
    large = io.BytesIO(b"\x89PNG" + bytes(200_000))
    large.name = "logo.png"
    page = operator.post(f"{url}1/change/", {**values, "logo_file": large}).content.decode()
    assert "The logo has 200,004 bytes, at most 200,000 are taken: save it smaller" in page
    draft = Invoice.objects.get(tenant=invoice.tenant, state="draft")
    act(operator, "refresh", draft, confirmed="yes")
    assert operator.get(f"{BASE}{draft.pk}/document/pdf/").content.startswith(b"%PDF")
