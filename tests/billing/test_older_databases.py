"""What databases of before hold, and what is left of ours when one has to go back to them."""

from __future__ import annotations

from datetime import date, timedelta
from importlib import import_module

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from billing.invoicing import frozen, terms_port
from billing.invoicing.brand import inlined, keep, logo_of, read_logo
from billing.invoicing.documents import render_pdf
from billing.invoicing.finalize import adds_up
from billing.invoicing.parties import seller
from billing.invoicing.reconcile import reconcile_invoices
from billing.metering import chain
from billing.metering.reconcile import reconcile
from billing.metering.rollup import rebuild_rollups
from billing.models import (
    Account,
    BrandAsset,
    CoinRollup,
    DailyRollup,
    Invoice,
    LedgerEntry,
    MonthlyRollup,
    Seller,
    UsageBatch,
)
from tenants import services
from tenants.models import Allowance, APIKey, QuotaWarning, Tenant
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook
from tests.billing.invoicing.test_credit_laws import discount
from tests.billing.invoicing.test_logos_kept_once import issue, picture
from tests.billing.test_keys_that_become_known import KEY, become_known
from tests.billing.usage import HOUR, use
from tests.support.walk import Law, state_of, walk
from tests.tenants.cast import Cast
from tests.tenants.test_quota_rows import told

_guards = import_module("billing.migrations.0006_invoices")

# The work of a core alone, 15 to 25 s of it, and cut off in the middle it would leave no database.
pytestmark = pytest.mark.timeout(400)


def test_from_before_the_ledger(committed_cast: Cast) -> None:
    walk(usage_is_the_opening_balance(committed_cast), keys_survive())


def test_from_before_kinds_and_replacements(committed_cast: Cast) -> None:
    walk(
        invoices_without_a_logo_are_the_same(committed_cast),
        invoices_draw_the_same(committed_cast),
        allowances_go_on(),
        one_warning_a_threshold_is_left(),
        sums_of_a_key_that_became_known_are_parted(committed_cast),
    )


def keys_survive() -> Law:
    yield ("tenants", "0002_bulk_lag")
    apps = state_of("tenants", "0002_bulk_lag")
    tenant = apps.get_model("tenants", "Tenant").objects.create(name="Old", slug="old")
    apps.get_model("tenants", "APIKey").objects.create(
        tenant=tenant, name="bot", prefix="hlr_live_abc", digest="d" * 64
    )
    yield None
    key = APIKey.objects.get(digest="d" * 64)
    assert (key.allowed_networks, key.allowed_origins, key.first_key) == ([], [], None)
    key.full_clean()


def usage_is_the_opening_balance(cast: Cast) -> Law:
    key = services.issue_key(tenant=cast.acme, name="bot").key.pk
    use(key, 5, seq=1)
    use(424_242, 7, seq=2)
    use(key, 1, seq=3, hours=12)
    yield ("billing", "0001_usage_batches_and_rollups")
    yield None
    assert list(LedgerEntry.objects.values_list("account", "position", "hour", "units")) == [
        (0, 1, HOUR, 70),
        (0, 2, HOUR, 7),
        (cast.acme.pk, 1, HOUR, 50),
        (cast.acme.pk, 2, HOUR, 5),
        (cast.acme.pk, 3, HOUR + timedelta(hours=12), 10),
        (cast.acme.pk, 4, HOUR + timedelta(hours=12), 1),
    ]
    assert [account.last_position for account in Account.objects.all()] == [2, 4]
    daily = DailyRollup.objects.filter(key_id=key, metric="messages").order_by("day")
    assert list(daily.values_list("day", "units")) == [
        (date(2026, 11, 23), 5),
        (date(2026, 11, 24), 1),
    ]
    assert MonthlyRollup.objects.get(key_id=key, metric="messages").units == 6
    # Of coins that nobody noted, so that the days of all coins are the days from the first on.
    assert {row.coin for row in CoinRollup.objects.all()} == {"other"}
    assert {difference.check for difference in reconcile()} <= {"batch"}
    # Those of before are known still, and have no entries.
    assert UsageBatch.objects.filter(entry_count=None).count() == 3
    use(key, 2, seq=4)
    chain.seal_ledger(HOUR)
    assert [fault for account in Account.objects.all() for fault in chain.faults(account)] == []


def sums_of_a_key_that_became_known_are_parted(cast: Cast) -> Law:
    use(KEY, 7, seq=1)
    become_known(cast)
    use(KEY, 5, seq=2)
    acme = cast.acme.pk
    yield ("billing", "0007_usage_detail")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenant_id, metric, units FROM billing_dailyrollup ORDER BY metric")
        assert list(cursor) == [(acme, "bytes", 120), (acme, "messages", 12)]
        cursor.execute("SELECT tenant_id, messages, bytes FROM billing_coinrollup")
        assert list(cursor) == [(acme, 12, 120)]
    yield None
    rebuild_rollups()
    assert set(DailyRollup.objects.values_list("tenant", "metric", "units")) == {
        (None, "messages", 7),
        (None, "bytes", 70),
        (acme, "messages", 5),
        (acme, "bytes", 50),
    }


def one_warning_a_threshold_is_left() -> Law:
    tenant = Tenant.objects.create(name="Warned", slug="warned")
    for limit in (100, 1_000):
        assert told(tenant, 80, limit=limit)
    yield ("tenants", "0007_quota_warnings")
    rows = QuotaWarning.objects.for_tenant(tenant)
    assert list(rows.values_list("limit", flat=True)) == [1_000]
    yield None
    assert told(tenant, 80, limit=10_000)


def allowances_go_on() -> Law:
    """What was written before the column was there."""
    tenant = services.create_tenant(name="Allowed", plan=None)
    yield ("tenants", "0008_warnings_by_limit")
    rows = state_of("tenants", "0008_warnings_by_limit").get_model("tenants", "Allowance").objects
    month = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for number in (0, 1):
        rows.create(
            tenant_id=tenant.pk,
            code="messages",
            metric="messages",
            starts_at=month + timedelta(days=31 * number),
            ends_at=month + timedelta(days=31 * (number + 1)),
            units=1,
        )
    yield None
    found = Allowance.objects.filter(tenant=tenant).order_by("starts_at")
    assert list(found.values_list("goes_on", flat=True)) == [False, True]


def invoices_without_a_logo_are_the_same(cast: Cast) -> Law:
    with terms_port.use(PlainBook()):
        issue(cast, NOVEMBER)
    before = Invoice.objects.order_by("pk").values_list("pk", "seller")
    copies = dict(before)
    assert {copy["logo_sha256"] for copy in copies.values()} == {""}
    yield ("billing", "0011_spending_turns")
    yield None
    assert {pk: copy for pk, copy in before.all() if pk in copies} == copies
    assert list(reconcile_invoices()) == []


def invoices_draw_the_same(cast: Cast) -> Law:
    Seller.objects.create(name="Relay Works", logo=keep(read_logo(picture())))
    with terms_port.use(PlainBook(discounts=[discount("plan_fee", 50, None)])):
        invoice = issue(cast, DECEMBER)
    nets = list(invoice.lines.order_by("place").values_list("net", flat=True))
    drawn, logo = render_pdf(invoice), logo_of(invoice.seller)
    before = {"seller": inlined(invoice.seller)}
    lines = list(invoice.lines.order_by("place"))
    sha256 = frozen._content_hash(invoice, lines, frozen._LINE_V1, before)
    yield ("billing", "0011_spending_turns")
    refuse_change(invoice)
    with connection.schema_editor() as editor:
        _guards.unguard(None, editor)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_invoice SET content_sha256 = %s WHERE id = %s", [sha256, invoice.pk]
        )
        cursor.execute("SELECT logo FROM billing_seller")
        assert cursor.fetchone() == (logo,)
        cursor.execute("SELECT seller FROM billing_invoice WHERE id = %s", [invoice.pk])
        assert all(logo in row[0] for row in cursor.fetchall())
    with connection.schema_editor() as editor:
        _guards.guard(None, editor)
    yield None
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
