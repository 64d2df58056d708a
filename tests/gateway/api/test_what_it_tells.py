"""What the account API tells is what the tables say, in as few statements for many rows as for
few."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.catalogue import services
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.metering.batch import UsageLine
from billing.metering.ingest import ingest
from billing.models import Invoice, UsageBatch
from gateway.account.breakdown import Dimension, breakdown
from gateway.account.usage import UsageQuery
from gateway.requests.models import RequestRecord
from tenants.models import Delivery, Notice, Tenant
from tenants.notices import services as notices
from tests.billing.catalogue.books import make_prices, make_tenant, publish
from tests.billing.usage import make_batch
from tests.gateway.api.client import Api, api_of
from tests.tenants.cast import Cast

DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def ada(cast: Cast) -> Api:
    return api_of(cast.acme, "account", "ws")


@pytest.fixture
def usage(cast: Cast) -> Counter[tuple[str, str]]:
    """Six hours of two keys of Acme and one of Cleo's; the units of Acme by metric and reason."""
    keys = [api_of(cast.acme, "ws").key, api_of(cast.acme, "info").key]
    stranger = api_of(cast.other, "ws").key
    sums: Counter[tuple[str, str]] = Counter()
    for hour in range(6):
        lines = [
            UsageLine(keys[0].pk, "trades", 10 + hour, 1_000, 0, coin="BTC"),
            UsageLine(keys[0].pk, "trades", 3, 300, 0, coin="ETH"),
            UsageLine(keys[0].pk, "trades", 5, 50, 0, reason="replay", coin="BTC"),
            UsageLine(keys[1].pk, "info", 0, 700, 7),
            UsageLine(stranger.pk, "trades", 1_000_000, 1, 0, coin="BTC"),
        ]
        assert ingest(make_batch(*lines, seq=hour + 1, hour=DAY + timedelta(hours=hour)))
        sums += Counter(
            {
                ("messages", ""): 13 + hour,
                ("bytes", ""): 2_000,
                ("requests", ""): 7,
                ("messages", "replay"): 5,
                ("bytes", "replay"): 50,
            }
        )
    return sums


RANGE = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}


@pytest.mark.parametrize("step", ["hour", "day"])
def test_usage_adds_up(ada: Api, usage: Counter[tuple[str, str]], step: str) -> None:
    told: Counter[tuple[str, str]] = Counter()
    cursor, pages = "", 0
    while True:
        page = ada.get("usage", **RANGE, step=step, limit=4, cursor=cursor)
        for row in page["rows"]:
            told[row["metric"], row["zero_rated"]] += row["units"]
            assert row["product"] == ("info" if row["channel"] == "info" else "streams")
            assert row["key_name"] == "api"
        cursor, pages = page["next_cursor"], pages + 1
        if not cursor:
            break
    assert told == usage
    assert pages > 1
    totals = ada.get("usage/totals", **RANGE, step=step)
    assert {(row["metric"], row["zero_rated"]): row["units"] for row in totals["rows"]} == usage
    assert totals["reasons"] == {"replay": "read from the log again"}


def test_usage_by_coin(ada: Api, usage: Counter[tuple[str, str]]) -> None:
    rows = ada.get("usage", **RANGE, by_coin="true", metric="messages", free="false")["rows"]
    assert {(row["coin"], row["units"]) for row in rows} == {("BTC", 75), ("ETH", 18)}
    only = ada.get("usage", **RANGE, coin="ETH")["rows"]
    assert {(row["metric"], row["units"]) for row in only} == {("messages", 18), ("bytes", 1_800)}


def test_usage_as_csv(ada: Api, usage: Counter[tuple[str, str]]) -> None:
    answer = ada("GET", "usage.csv", **RANGE, step="hour")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="usage-20261120-20261121.csv"'
    )
    told: Counter[tuple[str, str]] = Counter()
    for row in csv.DictReader(io.StringIO(answer.body.decode())):
        told[row["metric"], row["zero_rated"]] += int(row["units"])
    assert told == usage
    by_coin = ada("GET", "usage.csv", **RANGE, by_coin="true", metric="messages").body.decode()
    units = [int(row["units"]) for row in csv.DictReader(io.StringIO(by_coin))]
    assert sum(units) == usage["messages", ""] + usage["messages", "replay"]


@pytest.mark.parametrize("by", ["key", "product", "channel", "coin", "zero_rated", "none"])
def test_lines_of_a_chart_add_up(
    cast: Cast, usage: Counter[tuple[str, str]], by: Dimension
) -> None:
    query = UsageQuery(start=DAY - timedelta(days=2), end=DAY + timedelta(days=1))
    chart = breakdown(cast.acme, query, metric="messages", by=by)
    total = usage["messages", ""] + usage["messages", "replay"]
    assert sum(line.total for line in chart.series) == total
    assert sum(line.values[2] for line in chart.series) == total
    assert chart.times[2] == DAY
    names = {
        "product": ["streams"],
        "channel": ["trades"],
        "coin": ["BTC", "ETH"],
        "zero_rated": ["", "replay"],
        "none": [""],
    }
    assert [line.name for line in chart.series] == names.get(by, [chart.series[0].name])


@pytest.fixture
def billed(db: None) -> tuple[Tenant, Api]:
    """A tenant on $30 with one finalized invoice of a month gone by."""
    now = timezone.now()
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = (month - timedelta(days=40)).replace(day=1)
    tenant = make_tenant("Acme")
    small = publish(make_prices("small", 30))
    publish(make_prices("large", 300))
    services.subscribe(tenant, plan=small, now=begin)
    close_due_periods(month + timedelta(hours=1))
    finalize_due(month + timedelta(days=10))
    return tenant, api_of(tenant)


def test_invoices(billed: tuple[Tenant, Api]) -> None:
    tenant, api = billed
    rows = api.get("invoices")["rows"]
    stored = Invoice.objects.for_tenant(tenant).finalized()
    assert [row["number"] for row in rows] == [one.number for one in stored]
    number = rows[0]["number"]
    assert (rows[0]["total"], rows[0]["state"], rows[0]["currency"]) == ("30.00", "open", "USD")
    one = api.get(f"invoices/{number}")
    assert sum(Decimal(line["amount"]) for line in one["lines"]) == Decimal(one["subtotal"])
    assert one["events"][0]["kind"] == "finalized"
    pdf = api("GET", f"invoices/{number}/pdf")
    assert pdf.body.startswith(b"%PDF-")
    assert api("GET", f"invoices/{number}/pdf").body == pdf.body
    page = api("GET", f"invoices/{number}/html")
    assert number in page.body.decode()
    assert "sandbox" in page.headers["content-security-policy"]
    lines = list(csv.DictReader(io.StringIO(api("GET", f"invoices/{number}/csv").body.decode())))
    assert [row["amount"] for row in lines] == [line["amount"] for line in one["lines"]]
    assert api.get("invoices", state="overdue")["rows"] == []


def test_a_stranger_has_no_invoice(billed: tuple[Tenant, Api]) -> None:
    _, api = billed
    number = api.get("invoices")["rows"][0]["number"]
    stranger = api_of(make_tenant("Cleo"))
    assert stranger.get("invoices")["rows"] == []
    for path in (f"invoices/{number}", *(f"invoices/{number}/{f}" for f in ("pdf", "html", "csv"))):
        answer = stranger("GET", path)
        assert (answer.status, answer.code) == (404, "not_found")


def test_plan_allowances_and_preview(billed: tuple[Tenant, Api]) -> None:
    _, api = billed
    plan = api.get("plan")
    assert (plan["code"], plan["version"], plan["limits"]["max_connections"]) == ("small", 1, 3)
    assert plan["prices"]["fee"] == "30"
    allowance = next(
        row for row in api.get("plan/allowances")["rows"] if row["metric"] == "messages"
    )
    assert (allowance["used"], allowance["units"], allowance["is_hard"]) == (0, 30_000, True)
    assert api.get("plan/running")["so_far"]["total"] == "30.00"
    preview = api("POST", "plan/preview", {"plan": "large"}).json
    more = Decimal(preview["after"]["total"]) - Decimal(preview["before"]["total"])
    assert Decimal(preview["difference"]) == more > 0
    assert preview["next_fee"] == "300.00"
    assert api("POST", "plan/preview", {"plan": "none"}).code == "not_found"
    assert [one["code"] for one in api.get("plans")["rows"]] == ["small", "large"]


def test_what_is_used_of_an_allowance(billed: tuple[Tenant, Api]) -> None:
    _, api = billed
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    line = UsageLine(api.key.pk, "trades", 15_000, 1, 0)
    free = UsageLine(api.key.pk, "trades", 9_000, 1, 0, reason="replay")
    assert ingest(make_batch(line, free, hour=hour))
    (row,) = [r for r in api.get("plan/allowances")["rows"] if r["metric"] == "messages"]
    assert (row["used"], row["percent"]) == (15_000, 50.0)


def test_spending(billed: tuple[Tenant, Api]) -> None:
    _, api = billed
    assert api.get("spending")["overage"] is False
    chosen = api("PATCH", "spending", {"overage": True, "spend_cap": "25.50"}).json
    assert (chosen["overage"], chosen["spend_cap"]) == (True, "25.50")
    assert api("PATCH", "spending", {"spend_cap": None}).json["spend_cap"] is None
    assert api("PATCH", "spending", {"overage": False}).json["overage"] is False
    assert api("PATCH", "spending", {"spend_cap": "-1"}).code == "bad_value"
    assert api("PATCH", "spending", {"spend_cap": "1.005"}).code == "bad_value"


def test_who_is_told(billed: tuple[Tenant, Api]) -> None:
    _, api = billed
    assert api.get("spending")["thresholds"] == [75, 80, 100, 150]
    given = {"thresholds": [90, 50], "mail_kinds": ["quota.reached"], "mail_roles": ["finance"]}
    chosen = api("PATCH", "spending", given).json
    assert chosen["thresholds"] == [50, 90, 100]
    assert (chosen["mail_kinds"], chosen["mail_roles"]) == (["quota.reached"], ["finance"])
    for wrong in (
        {"thresholds": [0]},
        {"thresholds": ["often"]},
        {"thresholds": [1.5]},
        {"thresholds": list(range(1, 10))},
        {"mail_roles": ["king"]},
        {"mail_kinds": ["invoice.sent"]},
        {"mail_addresses": ["who@example.com"]},
    ):
        # Neither that nor what came with it.
        assert api("PATCH", "spending", wrong | {"overage": True}).code == "bad_value", wrong
    assert api.get("spending")["thresholds"] == [50, 90, 100]
    assert api.get("spending")["overage"] is False


def test_webhooks(ada: Api) -> None:
    made = ada("POST", "webhooks", {"url": "https://hooks.example.com/a", "kinds": ["key.rotated"]})
    assert made.status == 201
    uid = made.json["about"]["id"]
    assert made.json["secret"] not in str(ada.get(f"webhooks/{uid}"))
    again = ada("POST", f"webhooks/{uid}/rotate-secret", {"overlap_s": 60})
    assert again.json["secret"] != made.json["secret"]
    delivery = ada("POST", f"webhooks/{uid}/ping")
    assert delivery.status == 202
    log = ada.get("deliveries", webhook=uid)["rows"]
    assert [row["id"] for row in log] == [delivery.json["id"]]
    assert ada("POST", f"deliveries/{delivery.json['id']}/replay").status == 202
    assert ada("DELETE", f"webhooks/{uid}").status == 204
    assert ada.get(f"webhooks/{uid}")["disabled_reason"] == "by you"
    assert ada("POST", f"webhooks/{uid}/ping").code == "conflict"
    assert ada("PATCH", f"webhooks/{uid}", {"is_enabled": True}).json["is_enabled"] is True
    bad = ada("POST", "webhooks", {"url": "http://169.254.169.254/latest"})
    assert bad.code == "bad_value"


# --- as few statements for many rows as for few --------------------------------------------------


def many_keys(api: Api, count: int) -> None:
    for _ in range(count):
        api_of(api.key.tenant, "ws")


def many_usage(api: Api, count: int) -> None:
    for n in range(count):
        line = UsageLine(api.key.pk, "trades", 1, 1, 0, coin=f"C{n}")
        assert ingest(make_batch(line, seq=1_000 + UsageBatch.objects.count()))


def many_requests(api: Api, count: int) -> None:
    RequestRecord.objects.bulk_create(
        RequestRecord(
            at=timezone.now(), request_id=f"r{n}", tenant=api.key.tenant, door="info",
            method="POST", status=400 + n, total_ms=1.0,
        )
        for n in range(count)
    )  # fmt: skip


def many_deliveries(api: Api, count: int) -> None:
    for n in range(count):
        url = f"https://hooks.example.com/{Delivery.objects.count()}"
        shown = notices.add_endpoint(tenant=api.key.tenant, url=url)
        notice = Notice.objects.create(
            tenant=api.key.tenant, kind="ping", dedupe=f"p:{n}:{Notice.objects.count()}"
        )
        Delivery.objects.create(tenant=api.key.tenant, notice=notice, endpoint=shown.endpoint)


@pytest.mark.parametrize(
    ("path", "make", "most"),
    [
        ("keys", many_keys, 2),
        ("usage?step=hour", many_usage, 2),
        ("usage?by_coin=true", many_usage, 2),
        ("usage/totals", many_usage, 1),
        ("requests", many_requests, 1),
        ("requests/facets", many_requests, 5),
        ("webhooks", many_deliveries, 1),
        ("deliveries", many_deliveries, 1),
    ],
)
def test_statements(ada: Api, path: str, make: Callable[[Api, int], None], most: int) -> None:
    path, _, query = path.partition("?")
    fields: dict[str, Any] = dict([query.split("=")]) if query else {}
    if path.startswith("usage"):
        fields |= {"start": "2026-11-20T00:00:00Z", "end": "2026-11-30T00:00:00Z"}

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            ada.get(path, **fields)
        return len(captured)

    make(ada, 2)
    few = statements()
    make(ada, 7)
    # Of them five are the key's, which a running door has in memory, and one is the tenant.
    assert statements() == few <= most + 6
