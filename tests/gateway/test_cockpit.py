"""The landing page, the tenant's page, margins and the test of the mail: true figures, and no
secret anywhere."""

from __future__ import annotations

import json
import smtplib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.catalogue import services as catalogue
from billing.metering.batch import Batch, BatchId, UsageLine
from billing.metering.ingest import ingest, receive
from billing.models import AppliedTerms, MonthlyRollup
from gateway.backoffice import landing, margin
from gateway.backoffice.mail_test import MailFailed, send_test_mail
from gateway.backoffice.models import CostRate
from tenants import services
from tenants.models import Allowance, PlanSubscription, Tenant
from tenants.notices import services as notices
from tests.billing.catalogue.books import publish_book
from tests.gateway.rows import make, unchecked
from tests.gateway.test_cockpit_lists import LIVE, REGISTERED, list_of
from tests.support.pages import without_frame
from tests.tenants.cast import Cast
from tests.tenants.test_plans import INLINES

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_kept(settings: Any) -> None:
    """Else figures are those of whichever test looked seconds before."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


def use(cast: Cast, *, messages: int, payload_bytes: int = 0, seq: int = 1) -> None:
    """Usage of Acme in this hour."""
    key = services.issue_key(tenant=cast.acme, name="bot").key
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    line = UsageLine(key.pk, "bbo", messages, payload_bytes, 0)
    ingest(Batch(v=1, worker="a" * 32, seq=seq, hour=hour, lines=[line]))


# --- the landing page ---------------------------------------------------------------------------


def test_an_empty_installation_says_so(operator: Client) -> None:
    page = operator.get("/admin/").content.decode()
    for words in (
        "Nothing was delivered in the last 48 hours",
        "No invoice was finalized in the last 12 months",
        "Nobody got a message yet",
        "No invoice is overdue",
        "Everybody was told",
        "All usage could be read",
    ):
        assert words in page
    assert "Redis does not answer" in page or "No upstream worker is running" in page


def test_the_figures_are_those_of_the_rows(operator: Client, cast: Cast) -> None:
    use(cast, messages=6_000)
    receive(BatchId("b" * 32, 1), "nonsense")
    now = timezone.now()
    shown = landing.usage(now)
    assert shown["delivered_per_s"] == "100"
    chart = json.loads(shown["chart"])
    assert chart["datasets"][0]["data"] == [0] * 47 + [6.0]
    assert chart["datasets"][0]["label"] == "messages, k"
    assert [(row["name"], row["messages"]) for row in landing.top_tenants(now)] == [
        ("Acme", "6,000")
    ]
    assert landing.quarantined(now) == "1"
    page = operator.get("/admin/").content.decode()
    assert 'data-top="Acme"' in page
    assert 'data-figure="quarantined" class="text-red-700' in page


def test_jobs_that_stand_still_are_told(operator: Client, cast: Cast) -> None:
    late = timezone.now() - timedelta(minutes=14)
    applied = AppliedTerms.objects.create(tenant=cast.acme, applied_at=late, next_change_at=late)
    assert 'data-figure="behind"' not in operator.get("/admin/").content.decode()
    applied.next_change_at = late - timedelta(minutes=2)
    applied.save()
    assert 'data-figure="behind"' in operator.get("/admin/").content.decode()


def test_it_asks_as_often_for_many_tenants(operator: Client, cast: Cast) -> None:
    counts = []
    for seq in (1, 2):
        use(cast, messages=10, seq=seq)
        for n in range(10):
            services.create_tenant(name=f"T {seq} {n}", plan=cast.small)
        with CaptureQueriesContext(connection) as seen:
            assert operator.get("/admin/").status_code == 200
        counts.append(len(seen))
        assert not [q for q in seen if "usagerollup" in q["sql"] or "ledgerentry" in q["sql"]]
    assert counts[0] == counts[1] <= 50


def test_figures_are_kept_for_a_moment(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    asked: list[int] = []

    def figure(now: datetime) -> int:
        asked.append(1)
        return len(asked)

    now = timezone.now()
    assert landing.kept({"x": figure}, now) == landing.kept({"x": figure}, now) == {"x": 1}
    assert landing.KEEP_S <= 10


def test_revenue_is_by_the_month_of_the_service() -> None:
    now = datetime(2026, 11, 30, 9, tzinfo=UTC)
    found = landing.revenue(now)
    assert (found["month"], found["before_month"]) == ("November", "October")
    months = json.loads(found["chart"])["labels"]
    assert (months[0], months[-1], len(months)) == ("Dec 2025", "Nov 2026", 12)


# --- a tenant's page ----------------------------------------------------------------------------


def page_of(browser: Client, tenant: Tenant) -> str:
    url = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    return browser.get(url).content.decode()


def test_a_tenant_s_page_shows_its_usage_allowances_and_keys(operator: Client, cast: Cast) -> None:
    use(cast, messages=900)
    now = timezone.now()
    Allowance.objects.create(
        tenant=cast.acme,
        code="messages",
        metric="messages",
        starts_at=now - timedelta(days=1),
        ends_at=now + timedelta(days=1),
        units=1_000,
    )
    page = page_of(operator, cast.acme)
    assert "900 of 1,000 messages, 90 %" in page
    assert "900 messages" in page
    assert "Small version 1" in page
    assert "rotate" in page
    assert page_of(operator, cast.other).count("data-allowance") == 0


def test_a_plan_is_not_changed_behind_the_preview(operator: Client, cast: Cast) -> None:
    url = reverse("admin:tenants_tenant_change", args=[cast.acme.pk])
    form = {"name": "Acme", "slug": "acme", "kind": "external", **INLINES}
    assert operator.post(url, {**form, "plan": cast.large.pk}).status_code == 302
    assert PlanSubscription.objects.for_tenant(cast.acme).current().get().plan == cast.small
    assert reverse("admin:billing_tenantterms_change_plan", args=[cast.acme.pk]) in page_of(
        operator, cast.acme
    )


def test_a_new_tenant_begins_on_the_version_in_force(operator: Client) -> None:
    book = publish_book()
    form = {"name": "Delta", "slug": "delta", "kind": "external", "plan": book["trial"].pk}
    answer = operator.post(reverse("admin:tenants_tenant_add"), {**form, **INLINES})
    assert answer.status_code == 302
    current = PlanSubscription.objects.current().get(tenant__slug="delta")
    assert current.plan == book["trial"]
    assert current.trial_ends_at is not None


# --- margins ------------------------------------------------------------------------------------


def test_cost_is_units_times_rates() -> None:
    rate = CostRate(
        egress_per_gb=Decimal("0.08"),
        per_million_messages=Decimal("0.5"),
        per_connection_hour=Decimal("0.01"),
    )
    units = {"bytes": 25_000_000_000, "messages": 3_000_000, "connection_hours": 100}
    assert margin.cost_of(units, rate) == Decimal("4.50")  # 2.00 + 1.50 + 1.00
    assert margin.cost_of(units, None) == 0


def test_margins_of_tenants_and_plans(operator: Client, cast: Cast) -> None:
    book = publish_book()
    now = datetime(2026, 11, 16, tzinfo=UTC)  # half of November
    services.suspend_tenant(cast.other, reason="unpaid")  # on the same plan, and brings nothing
    ada = services.create_tenant(name="Ada", plan=None)
    catalogue.subscribe(ada, plan=book["large"])
    key = services.issue_key(tenant=ada, name="bot").key
    CostRate.objects.create(effective_from=date(2026, 10, 1), egress_per_gb=Decimal(1))
    CostRate.objects.create(
        effective_from=date(2026, 11, 1), egress_per_gb=Decimal(2), fixed_per_month=Decimal(1_000)
    )
    for month, units in ((10, 7 * 10**9), (11, 100 * 10**9)):
        MonthlyRollup.objects.create(
            tenant=ada, key=key, metric="bytes", channel="l4Book", units=units,
            month=date(2026, month, 1),
        )  # fmt: skip
    found = margin.margins(now)
    row = next(row for row in found.tenants if row.name == "Ada")
    assert row.cost == [Decimal(7), Decimal(200)]
    assert row.revenue == [Decimal(0), Decimal(150)]
    assert row.margin == [Decimal(-7), Decimal(-50)]
    assert found.tenants[0] is row  # the lowest first
    assert next(plan for plan in found.plans if plan.name == "Large").margin[1] == -50
    assert found.fixed == (0, 1_000)
    page = operator.get(reverse("cockpit:margin") + "?q=ad").content.decode()
    assert 'data-margin="Ada"' in page
    assert 'data-margin="Acme"' not in page


def test_margins_ask_as_often_for_many(cast: Cast) -> None:
    counts = []
    for seq in (1, 2):
        use(cast, messages=10, seq=seq)
        with CaptureQueriesContext(connection) as seen:
            margin.margins(timezone.now())
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_a_rate_is_audited_and_holds_for_whole_months(operator: Client) -> None:
    url = reverse("admin:backoffice_costrate_add")
    form = {
        name: "1" for name in ("egress_per_gb", "per_million_messages", "per_connection_hour")
    } | {"fixed_per_month": "10"}
    assert (
        b"first of a month" in operator.post(url, {**form, "effective_from": "2026-11-02"}).content
    )
    assert (
        b"greater than or equal"
        in operator.post(
            url, {**form, "effective_from": "2026-11-01", "egress_per_gb": "-1"}
        ).content
    )
    assert operator.post(url, {**form, "effective_from": "2026-11-01"}).status_code == 302
    rate = CostRate.objects.get()
    assert str(LogEntry.objects.get_for_object(rate).get().actor) == "op"
    with pytest.raises(IntegrityError), transaction.atomic():
        CostRate.objects.create(effective_from=date(2027, 1, 1), egress_per_gb=Decimal(-1))
    with pytest.raises(ValidationError):
        CostRate(effective_from=date(2026, 11, 1)).full_clean()


# --- mail ---------------------------------------------------------------------------------------


def test_the_mail_settings_are_tried_on_oneself(operator: Client) -> None:
    url = reverse("cockpit:test_mail")
    assert operator.get(url).status_code == 200
    assert mail.outbox == []
    assert b"no e-mail address" in operator.post(url, follow=True).content
    User.objects.filter(username="op").update(email="op@example.com")
    page = operator.post(url, {"to": "stranger@example.com"}, follow=True)
    assert b"on its way to op@example.com" in page.content
    assert [message.to for message in mail.outbox] == [["op@example.com"]]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (smtplib.SMTPAuthenticationError(535, b"hunter2 is wrong"), "refuses the user"),
        (smtplib.SMTPSenderRefused(550, b"5.7.1 not\r\nfrom here", "x@y"), "550 5.7.1 not from"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    with pytest.raises(MailFailed, match=told) as caught:
        send_test_mail(User(email="op@example.com"))
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


# --- no secret anywhere -------------------------------------------------------------------------


# That every list asks MariaDB what it can answer is shown by test_cockpit_lists.py.
@pytest.mark.any_database
def test_no_page_shows_a_secret(operator: Client, cast: Cast, settings: Any) -> None:
    """Every list, every row of every kind and every page beside them, as a superuser sees them."""
    settings.RELAY_KEY_PEPPER = "pepper-canary-01234"
    issued = services.issue_key(tenant=cast.acme, name="canary")
    rotated = services.rotate_key(issued.key, overlap=timedelta(hours=1))
    told = notices.add_endpoint(tenant=cast.acme, url="https://hook.example/x", kinds=[])
    user = User.objects.create_user("canary", "canary@example.com", "canary-password-77")
    secrets = {
        issued.raw, rotated.raw, issued.key.digest, rotated.key.digest, told.secret,
        user.password, settings.SECRET_KEY, settings.RELAY_KEY_PEPPER,
    }  # fmt: skip
    urls = [reverse("cockpit:margin"), reverse("cockpit:test_mail")]
    index = operator.get("/admin/")
    assert not [secret for secret in secrets if secret in index.content.decode()]
    request = index.wsgi_request
    for model in REGISTERED:
        urls.append(list_of(model))
        if model._meta.label in LIVE:
            continue
        with unchecked():
            if not model._default_manager.exists():
                make(model)
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        for pk in model._default_manager.values_list("pk", flat=True)[:20]:
            urls += [reverse(f"{name}_change", args=[pk]), reverse(f"{name}_history", args=[pk])]
        owner = admin.site._registry[model]
        if owner.has_add_permission(request):
            urls.append(reverse(f"{name}_add"))
    with without_frame():  # the index has it
        for url in urls:
            page = operator.get(url)
            assert page.status_code == 200, url
            text = page.content.decode(errors="replace")
            assert not [secret for secret in secrets if secret in text], url
