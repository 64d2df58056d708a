"""The usage page: what it shows is what its file says and what the ledger holds."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.metering.batch import VERSION, Batch, UsageLine
from billing.metering.chain import seal_ledger
from billing.metering.ingest import ingest
from billing.models import LedgerEntry
from gateway.dashboard.usage_filters import Filters
from tenants import services
from tests.billing.usage import WORKER
from tests.support import guards
from tests.tenants.cast import Cast
from tests.tenants.people import owner_of, signed_in

pytestmark = pytest.mark.django_db
DAY = datetime(2026, 11, 23, tzinfo=UTC)
RANGE = "range=custom&start=2026-11-22&end=2026-11-24"


@pytest.fixture(autouse=True)
def _shared(redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url
    cache.clear()


@pytest.fixture
def ada(cast: Cast) -> Client:
    """Acme's owner, whose two keys used something on two days."""
    keys = [services.issue_key(tenant=cast.acme, name=name).key.pk for name in ("=mm", "ops")]
    for seq in range(1, 31):
        hour = DAY + timedelta(hours=seq - 3)
        lines = [
            UsageLine(keys[0], "l2Book", 100 * seq, 40_000 * seq, 0, "BTC"),
            UsageLine(keys[0], "trades", 31, 9_000, 0, "ETH"),
            UsageLine(keys[1], "bbo", 7 * seq, 900, 0, "SOL"),
            UsageLine(keys[1], "bbo", 5, 600, 0, "SOL", "replay"),
            UsageLine(keys[1], "info", 0, 5_000, 3),
        ]
        assert ingest(Batch(v=VERSION, worker=WORKER, seq=seq, hour=hour, lines=lines))
    return signed_in(owner_of(cast.acme).user)


def chart_of(page: bytes) -> dict[str, Any]:
    """The numbers that a page's chart draws."""
    found = re.search(rb'<script id="usage-chart"[^>]*>(.*?)</script>', page, re.S)
    assert found is not None
    return dict(json.loads(found[1]))


def table_of(page: bytes) -> list[list[str]]:
    """The cells of the table of all numbers, without its sums."""
    body = page.decode().partition('id="numbers"')[2].partition("<tbody>")[2]
    body = body.partition("</tbody>")[0]
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)
    ]


def file_of(answer: Any) -> list[dict[str, str]]:
    """The rows of a CSV."""
    assert answer["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.getvalue().decode())))


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("by", ["channel", "key", "product", "coin", "zero_rated", "none"])
@pytest.mark.parametrize("metric", ["messages", "bytes"])
def test_chart_table_and_file_are_the_ledger(ada: Client, by: str, metric: str) -> None:
    query = f"{RANGE}&by={by}&metric={metric}"
    page = ada.get(f"/app/acme/usage?{query}").content
    entries = LedgerEntry.objects.filter(metric=metric).values_list("hour", "units")
    by_day: Counter[str] = Counter()
    for hour, units in entries:
        by_day[f"{hour:%Y-%m-%d}"] += units

    chart = chart_of(page)
    days = [f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in chart["times"]]
    sums = [sum(one["values"][n] for one in chart["series"]) for n in range(len(days))]
    assert dict(zip(days, sums, strict=True)) == by_day

    rows = table_of(page)
    assert {row[0]: number(row[-1]) for row in rows} == by_day
    for row in rows:
        cells = [one["values"][days.index(row[0])] for one in chart["series"]]
        assert [number(cell) for cell in row[1:-1]] == cells

    found: Counter[tuple[str, str]] = Counter()
    for line in file_of(ada.get(f"/app/acme/usage.csv?{query}")):
        found[line["at"][:10], line["name"]] += int(line["units"])
    assert Counter(day for (day, _), n in found.items() for _ in range(n)) == by_day


def test_every_row_is_in_the_other_file(ada: Client) -> None:
    rows = file_of(ada.get(f"/app/acme/usage.csv?{RANGE}&rows=all"))
    sums: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        sums[row["metric"], row["channel"], row["zero_rated"]] += int(row["units"])
    held: Counter[tuple[str, str, str]] = Counter()
    for *place, units in LedgerEntry.objects.values_list(
        "metric", "channel", "zero_rated", "units"
    ):
        held[place[0], place[1], place[2]] += units
    assert sums == held


def test_a_file_is_safe_in_a_spreadsheet(ada: Client) -> None:
    text = ada.get(f"/app/acme/usage.csv?{RANGE}&by=key").getvalue().decode()
    assert "\"'=mm (" in text


def test_filters_narrow_and_stay(ada: Client, cast: Cast) -> None:
    page = ada.get(f"/app/acme/usage?{RANGE}&channel=bbo&free=yes&step=hour").content
    chart = chart_of(page)
    assert [one["label"] for one in chart["series"]] == ["bbo"]
    assert sum(chart["series"][0]["values"]) == 30 * 5
    assert len(chart["times"]) == 72
    # Every link of the page keeps them.
    links = re.findall(r'class="choice" href="\?([^"]*)"', page.decode())
    assert links
    assert all("channel=bbo" in link and "free=yes" in link for link in links)
    assert b"read from the log again" in page


def test_more_series_than_colours_are_one(cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="many").key.pk
    lines = [UsageLine(key, "trades", 100 - n, 10, 0, f"COIN{n}") for n in range(30)]
    assert ingest(Batch(v=VERSION, worker=WORKER, seq=1, hour=DAY, lines=lines))
    client = signed_in(owner_of(cast.acme).user)
    page = client.get(f"/app/acme/usage?{RANGE}&by=coin").content
    chart = chart_of(page)
    assert [one["label"] for one in chart["series"]][-1] == "23 others"
    assert sum(sum(one["values"]) for one in chart["series"]) == sum(range(71, 101))
    assert len(file_of(client.get(f"/app/acme/usage.csv?{RANGE}&by=coin"))) == 30


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("range=custom&start=x", "is no day like"),
        ("range=custom&start=2026-11-09&end=2026-11-02", "must not be after"),
        ("range=custom&start=1926-11-09&end=2026-11-02", "years are 2000"),
        ("range=custom&start=2020-11-09&end=2026-11-02", "at most 400 days"),
        ("range=custom&start=2026-01-01&end=2026-11-02&step=hour", "at most 31 days"),
        ("range=custom&start=9999-12-31&end=9999-12-31", "years are 2000"),
    ],
)
def test_a_range_that_cannot_be_shown_says_why(ada: Client, query: str, says: str) -> None:
    assert says in ada.get(f"/app/acme/usage?{query}").content.decode()
    refused = ada.get(f"/app/acme/usage.csv?{query}")
    assert refused.status_code == 400
    assert says in refused.content.decode()


@pytest.mark.parametrize(
    "query",
    ["by=no&metric=no&step=no&range=no&free=no&key=-1", "key=99999999999999999999", "coin=%00"],
)
def test_what_is_unknown_is_left_out(ada: Client, query: str) -> None:
    assert ada.get(f"/app/acme/usage?{query}").status_code == 200


def test_a_url_says_only_what_is_not_so_anyway() -> None:
    assert Filters.read({}).params() == ""
    week = Filters.read({"range": "7d", "by": "coin", "step": "hour", "metric": "requests"})
    assert (week.step, week.metric) == ("day", "messages")
    assert Filters.read(dict(part.split("=") for part in week.params().split("&"))) == week
    today = Filters.read({"range": "today"})
    assert today.step == "hour"
    assert "step" not in today.params()
    assert today.params(range="7d") == "range=7d"


def test_nothing_used_is_said(cast: Cast) -> None:
    client = signed_in(owner_of(cast.acme).user)
    assert b"Nothing was used in this range" in client.get("/app/acme/usage").content
    assert b"Nothing matches" in client.get("/app/acme/usage?channel=bbo").content
    assert b"This plan has no prices" in client.get("/app/acme/usage/cost").content
    assert b'data-value="0"' in client.get("/app/acme/usage/live").content


def test_others_usage_is_not_there(ada: Client, cast: Cast) -> None:
    cleo = signed_in(owner_of(cast.other, "cleo").user)
    page = cleo.get(f"/app/{cast.other.slug}/usage?{RANGE}").content
    assert b"Nothing was used" in page


def test_statements_do_not_grow_with_usage(ada: Client, cast: Cast) -> None:
    def statements(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert ada.get(path).status_code == 200
        return len(captured)

    paths = [f"/app/acme/usage?{RANGE}&by={by}" for by in ("channel", "key", "coin")]
    for path in paths:
        statements(path)  # the session's first
    before = [statements(path) for path in paths]
    key = services.issue_key(tenant=cast.acme, name="more").key.pk
    lines = [UsageLine(key, "trades", 9, 10, 0, f"COIN{n}") for n in range(40)]
    assert ingest(Batch(v=VERSION, worker="b" * 32, seq=1, hour=DAY, lines=lines))
    assert [statements(path) for path in paths] == before
    assert max(before) <= 22, before


@pytest.mark.django_db(transaction=True)  # MariaDB commits when a trigger is lifted
def test_the_chain_is_checked_and_a_change_is_found(ada: Client, cast: Cast) -> None:
    seal_ledger(DAY + timedelta(hours=29))
    page = ada.get("/app/acme/usage/receipts").content.decode()
    assert "2026-11" in page
    check = ada.get("/app/acme/usage/receipts/2026-11/check").content.decode()
    assert 'data-check="ok"' in check
    with guards.lifted(), connection.cursor() as cursor:  # past what refuses it
        cursor.execute("UPDATE billing_ledgerentry SET units = units + 1 WHERE position = 4")
    check = ada.get("/app/acme/usage/receipts/2026-11/check").content.decode()
    assert "seal 1: its entries are not those that were sealed" in check
    assert ada.get("/app/acme/usage/receipts/nothing/check").status_code == 400


def test_receipts_verify_with_the_script_that_is_offered(ada: Client, tmp_path: Any) -> None:
    seal_ledger(DAY + timedelta(hours=29))
    receipts = ada.get("/app/acme/usage/receipts/2026-11.jsonl")
    (tmp_path / "november.jsonl").write_bytes(receipts.getvalue())
    script = ada.get("/app/acme/usage/receipts/verify_receipts.py")
    (tmp_path / "verify_receipts.py").write_bytes(script.content)
    page = ada.get("/app/acme/usage/receipts").content.decode()
    head = re.search(r'id="head"[^>]*>([0-9a-f]{64})<', page)
    assert head is not None
    done = subprocess.run(
        [sys.executable, "verify_receipts.py", "november.jsonl", head[1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("verified:"), done.stderr
