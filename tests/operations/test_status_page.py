"""The public status page: from real rows, in a fixed number of queries, also when things are
down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.dashboard.announcements import announcements
from gateway.operations import sampling, selectors, services, shown, status
from gateway.operations.freshness import Look
from gateway.operations.models import Announcement, Freshness, Incident, IncidentUpdate
from gateway.operations.selectors import Day
from streaming.nodes.models import GapRecord
from tenants.append_only import AppendOnlyError
from tests.tenants.cast import Cast

pytestmark = pytest.mark.django_db

FEEDS = {"feed:books": Look(True, 400), "feed:trades": Look(True, 410)}
USER = "0x31ca8395cf837de08b24da3f660e77761dfb974b"


@pytest.fixture(autouse=True)
def fresh_page(settings: Any, tmp_path: Any) -> Iterator[None]:
    """Nothing kept from another test; Redis is nowhere, for none of it is asked."""
    settings.STATIC_ROOT = str(tmp_path)
    settings.REDIS_BUS_URL = "redis://127.0.0.1:1/0"
    status.kept.forget()
    yield
    status.kept.forget()


def gap(topic: str, kind: str, coin: str, *, low: int, edge: str = "", **values: Any) -> None:
    GapRecord.objects.create(
        topic=topic, kind=kind, coin=coin, source=values.pop("source", "node"), edge=edge,
        from_height=low, from_index=0, to_height=low + 10, to_index=0,
        reason="No node has the block", detected_at=timezone.now(), **values,
    )  # fmt: skip


def measure(looks: dict[str, Look], at: datetime | None = None) -> None:
    sampling.record(looks, at or timezone.now())


def test_all_is_well(client: Client) -> None:
    measure(FEEDS | {"upstream:node0": Look(True, 400), "upstream:public0": Look(True)})
    text = client.get("/status/").content.decode()
    assert "All feeds are fresh" in text
    assert "Node 1" in text
    assert "public feed 1" in text
    assert "100 %" in text
    assert text.count("<rect") == 4 * selectors.DAYS
    assert "style=" not in text.split("</head>")[1]


def test_a_stale_feed_is_told(client: Client) -> None:
    measure({"feed:books": Look(False), "feed:trades": Look(True, 400)})
    assert "Some of it is impaired" in client.get("/status/").content.decode()
    status.kept.forget()
    Freshness.objects.all().delete()
    measure({"feed:books": Look(False), "feed:trades": Look(False)})
    assert "Nothing fresh is served" in client.get("/status/").content.decode()


def test_when_jobs_stand_still_it_says_so_and_claims_nothing(client: Client) -> None:
    measure(FEEDS, timezone.now() - timedelta(minutes=5))
    text = client.get("/status/").content.decode()
    assert "Nothing was measured since" in text
    assert "Not known at the moment" in text
    assert "All feeds are fresh" not in text
    found = json.loads(client.get("/status.json").content)
    assert found["is_late"] is True
    assert found["feeds"][0]["is_fresh"] is None


def test_what_the_serving_process_sees_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_edge_says", lambda: None)
    assert "has fresh data: streams go on" in client.get("/status/").content.decode()
    monkeypatch.setattr(status, "_edge_says", lambda: "the bus is not connected")
    assert "the bus is not connected" in client.get("/status/").content.decode()
    assert json.loads(client.get("/status.json").content)["edge"] == "the bus is not connected"


def test_when_the_database_is_away_it_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise DatabaseError("gone")

    for name in ("histories", "gaps"):
        monkeypatch.setattr(selectors, name, away)
    answer = client.get("/status/")
    assert answer.status_code == 200
    assert "database does not answer" in answer.content.decode()
    assert json.loads(client.get("/status.json").content)["state"] == "unknown"
    assert client.get("/status/gaps/").status_code == 503


def test_days_and_uptime_are_of_what_was_measured(client: Client) -> None:
    now = timezone.now().replace(hour=12)
    for days, good in ((2, 9), (1, 10)):
        for n in range(10):
            at = now - timedelta(days=days) + timedelta(minutes=n)
            measure({"feed:books": Look(n < good, 300)}, at)
    (feed,) = json.loads(client.get("/status.json").content)["feeds"]
    assert feed["uptime_90d"] == pytest.approx(19 / 20)
    assert [day["fresh"] for day in feed["days"]] == [9, 10]


def test_incidents_are_told_and_end(client: Client) -> None:
    measure(FEEDS)
    incident = services.open_incident(
        title="Books were late", text="We look.", impact="major", affects="books", by="op"
    )
    text = client.get("/status/").content.decode()
    assert "Books were late" in text
    assert "Some of it is impaired" in text
    services.add_update(incident, state="resolved", text="A node was slow.", by="op")
    status.kept.forget()
    text = client.get("/status/").content.decode()
    assert "All feeds are fresh" in text
    assert text.index("A node was slow.") < text.index("We look.")
    assert "op" not in json.dumps(
        json.loads(client.get("/status.json").content)["incidents"][0]["updates"]
    )


def test_maintenance_to_come_impairs_nothing(client: Client) -> None:
    measure(FEEDS)
    services.open_incident(
        title="A new node", text="On Sunday.", impact="maintenance", state="scheduled",
        started_at=timezone.now() + timedelta(days=2),
    )  # fmt: skip
    text = client.get("/status/").content.decode()
    assert "A new node" in text
    assert "All feeds are fresh" in text


def test_what_was_said_stays() -> None:
    incident = services.open_incident(title="T", text="first")
    update = IncidentUpdate.objects.get()
    update.text = "second"
    with pytest.raises(AppendOnlyError):
        update.save()
    with pytest.raises(AppendOnlyError):
        IncidentUpdate.objects.all().delete()
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("UPDATE operations_incidentupdate SET text = 'second'")
    assert incident.updates.count() == 1


def test_announcements_are_shown_while_they_last(client: Client) -> None:
    now = timezone.now()
    hour = timedelta(hours=1)
    for title, start, end in (
        ("now", -hour, hour), ("for ever", -hour, None), ("over", -2 * hour, -hour),
        ("later", hour, None),
    ):  # fmt: skip
        Announcement.objects.create(
            title=title, starts_at=now + start, ends_at=None if end is None else now + end
        )
    assert {each.title for each in selectors.announcements(now)} == {"now", "for ever"}
    text = client.get("/status/").content.decode()
    assert "for ever" in text
    assert "later" not in text


def test_the_dashboard_shows_what_everybody_is_to_see(cast: Cast) -> None:
    Announcement.objects.create(title="New docs", text="Read them.", link="/docs/en/")
    services.open_incident(title="Books were late", text="We look.")
    services.open_incident(
        title="Later", text="t", impact="maintenance", started_at=timezone.now() + timedelta(days=1)
    )
    lines = [(str(line.text), line.level) for line in announcements(cast.acme)]
    assert lines == [("New docs: Read them.", "info"), ("Incident: Books were late", "warning")]


def test_the_gap_ledger_names_no_user_and_each_hole_once(client: Client) -> None:
    gap("trades BTC", "trades", "BTC", low=100)
    gap("trades BTC", "trades", "BTC", low=100, edge="edge-1")
    gap(f"userFills {USER}", "userFills", "", low=200, edge="edge-1")
    gap("bbo ETH", "bbo", "ETH", low=1, source="p-1234")
    text = client.get("/status/gaps/").content.decode()
    assert USER not in text
    assert USER not in client.get("/status/").content.decode()
    assert "edge-1" not in text
    rows = json.loads(client.get("/status/gaps/?format=json").content)["gaps"]
    assert [(row["feed"], row["coin"], row["seconds"]) for row in rows] == [
        ("bbo", "ETH", None), ("userFills", "", 0.7), ("trades", "BTC", 0.7),
    ]  # fmt: skip
    assert client.get("/status/gaps/?before=nonsense").status_code == 200
    assert client.get("/status/gaps/?before=2026-01-01T00:00:00%2B00:00").status_code == 200


def test_a_fixed_number_of_queries_however_much_there_is() -> None:
    now = timezone.now()

    def fill(days: int, subjects: int, incidents: int) -> None:
        for n in range(subjects):
            for day in range(days):
                measure({f"feed:f{n}": Look(True, 1)}, now - timedelta(days=day))
        for n in range(incidents):
            services.open_incident(title=f"I{n}", text="t")

    def count() -> int:
        with CaptureQueriesContext(connection) as seen:
            page = status.read(now)
            json.dumps(shown.as_json(page, None))
        return len(seen)

    fill(1, 1, 1)
    few = count()
    fill(5, 4, 5)
    assert count() == few == 6


def test_many_looks_cost_one_reading(client: Client) -> None:
    measure(FEEDS)
    client.get("/status/")
    with CaptureQueriesContext(connection) as seen:
        for _ in range(5):
            client.get("/status/")
            client.get("/status.json")
    assert not seen.captured_queries


def test_the_feed_has_an_entry_for_each_update(client: Client) -> None:
    incident = services.open_incident(title="Late <books>", text="We look.")
    services.add_update(incident, state="resolved", text="Over.")
    answer = client.get("/status/feed.atom")
    assert answer["Content-Type"].startswith("application/atom+xml")
    root = ElementTree.fromstring(answer.content)  # noqa: S314  # our own
    titles = [each.text for each in root.iter("{http://www.w3.org/2005/Atom}title")]
    assert titles[1:] == ["Late <books>: resolved", "Late <books>: investigating"]


def test_a_day_of_one_bad_minute_is_not_rounded_up() -> None:
    assert shown.percent(1.0) == "100 %"
    assert shown.percent(0.999_999) == "99.999 %"
    assert shown.percent(None) == "–"
    assert Day(timezone.now()).share is None


def test_operators_write_incidents_in_the_admin(operator: Client) -> None:
    form = {
        "title": "Books", "impact": "minor", "affects": "", "started_at_0": "2026-11-30",
        "started_at_1": "10:00:00", "updates-TOTAL_FORMS": "1", "updates-INITIAL_FORMS": "0",
        "updates-MIN_NUM_FORMS": "0", "updates-MAX_NUM_FORMS": "1000",
        "updates-0-state": "investigating", "updates-0-text": "We look.",
    }  # fmt: skip
    answer = operator.post("/admin/operations/incident/add/", form)
    assert answer.status_code == 302, answer.content.decode()[:2_000]
    incident = Incident.objects.get()
    assert incident.updates.get().by == "op"
    url = f"/admin/operations/incident/{incident.pk}/change/"
    assert "We look." in operator.get(url).content.decode()
    assert operator.post(url, form | {
        "updates-0-state": "resolved", "updates-0-text": "Over.",
    }).status_code == 302  # fmt: skip
    incident.refresh_from_db()
    assert incident.updates.count() == 2
    assert incident.resolved_at is not None
    assert operator.post(f"/admin/operations/incident/{incident.pk}/delete/").status_code == 403


def test_a_link_of_an_announcement_leads_somewhere_harmless(operator: Client) -> None:
    form = {
        "title": "T", "text": "", "level": "info", "starts_at_0": "2026-11-30",
        "starts_at_1": "10:00:00", "ends_at_0": "", "ends_at_1": "",
    }  # fmt: skip
    for link in ("javascript:alert(1)", "//evil.example", "http://plain.example"):
        operator.post("/admin/operations/announcement/add/", form | {"link": link})
    assert not Announcement.objects.exists()
    operator.post("/admin/operations/announcement/add/", form | {"link": "/docs/en/"})
    assert Announcement.objects.get().link == "/docs/en/"


@pytest.mark.alone
def test_the_page_takes_50_ms_at_most_from_what_is_kept(client: Client) -> None:
    subjects = {f"feed:f{n}": Look(True, 300) for n in range(8)}
    for day in range(60):
        measure(subjects, timezone.now() - timedelta(days=day))
    client.get("/status/")
    took = []
    for _ in range(15):
        # Of this process alone: a busy machine is not the page.
        begun_s = time.process_time()
        client.get("/status/")
        took.append(time.process_time() - begun_s)
    assert sorted(took)[len(took) // 2] < 0.050


def test_the_gap_ledger_is_read_to_its_end(client: Client) -> None:
    """Also where an outage left more at one moment than a page has, and each edge has its own."""
    at = timezone.now()
    GapRecord.objects.bulk_create(
        GapRecord(
            topic=f"trades C{n}", kind="trades", coin=f"C{n}", source="node", edge=f"edge-{edge}",
            from_height=100, from_index=0, to_height=110, to_index=0, reason="lost", detected_at=at,
        )
        for n in range(230)
        for edge in range(4)
    )  # fmt: skip
    assert ">Older<" in client.get("/status/gaps/").content.decode()
    seen: set[str] = set()
    older = "start="
    for _ in range(10):
        page = json.loads(client.get(f"/status/gaps/?format=json&{older}").content)
        seen |= {row["coin"] for row in page["gaps"]}
        if not (older := page["older"]):
            break
    assert not older
    assert len(seen) == 230
