"""Records of what went wrong: bounded, in bulk, and patient with the database."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from gateway.requests import dropped, selectors, services
from gateway.requests.entry import PER_TENANT_BURST, Book, Entry
from gateway.requests.models import RequestRecord
from gateway.requests.writer import Writer
from tests.tenants.cast import Cast


def entry(number: int = 0, *, tenant_id: int | None = None, **changed: Any) -> Entry:
    values: dict[str, Any] = {
        "at_s": time.time(),
        "request_id": f"r{number}",
        "tenant_id": tenant_id,
        "key_prefix": "hlr_live_abc",
        "door": "info",
        "method": "POST",
        "kind": "meta",
        "status": 429,
        "code": "rate_limited",
        "upstream_ms": None,
        "total_ms": 1.5,
    }
    return Entry(**(values | changed))


@given(st.lists(st.sampled_from(["note", "take", "give back"]), max_size=60))
def test_each_entry_is_kept_taken_or_counted(steps: list[str]) -> None:
    book, noted, taken, written = Book(max_kept=5), 0, list[list[Entry]](), 0
    for step in steps:
        if step == "note":
            book.note(entry(noted), now_s=0.0)
            noted += 1
        elif step == "take":
            taken.append(book.take(3))
        elif taken:
            book.give_back(taken.pop())
        assert len(book) <= 5
    written = sum(map(len, taken))
    assert noted == len(book) + written + sum(book.dropped.values())


def test_the_order_survives_a_failed_write() -> None:
    book = Book()
    for number in range(4):
        book.note(entry(number), now_s=0.0)
    book.give_back(book.take(2))
    assert [each.request_id for each in book.take(9)] == ["r0", "r1", "r2", "r3"]


def test_a_flood_of_one_leaves_room_for_others() -> None:
    book = Book()
    for number in range(PER_TENANT_BURST + 10):
        book.note(entry(number, tenant_id=1), now_s=0.0)
    assert book.dropped["flood"] == 10
    assert book.note(entry(tenant_id=2), now_s=0.0)


async def test_a_database_that_is_away_costs_nothing_but_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, written = Writer(), list[Entry]()
    is_away = True

    def write(entries: list[Entry]) -> None:
        if is_away:
            raise OperationalError("gone away")
        written.extend(entries)

    monkeypatch.setattr("gateway.requests.writer._write", write)
    for number in range(3):
        writer.note(entry(number))
    await writer.flush()
    assert (len(writer.book), written) == (3, [])
    is_away = False
    await writer.flush()
    assert [each.request_id for each in written] == ["r0", "r1", "r2"]


@pytest.mark.django_db
def test_what_is_written_is_read_by_its_tenant_alone_and_faceted(cast: Cast) -> None:
    acme = cast.acme
    services.write(
        [
            entry(1, tenant_id=acme.pk),
            entry(2, tenant_id=acme.pk, status=502, code="upstream_unavailable", upstream_ms=4.2),
            entry(3, tenant_id=None, kind="x" * 500, code="y" * 500, key_prefix="z" * 99),
            entry(4, tenant_id=10**9),  # of a tenant that is gone: the others' must not suffer
        ]
    )
    since = datetime.now(UTC) - timedelta(hours=1)
    found = selectors.requests_of(acme, since=since)
    assert {record.request_id for record in found} == {"r1", "r2"}
    assert dict(selectors.facets(found)["status"]) == {429: 1, 502: 1}
    (failed,) = selectors.requests_of(acme, since=since, status=502)
    assert failed.upstream_ms == 4.2
    with pytest.raises(ValueError, match="no facet"):
        selectors.requests_of(acme, since=since, request_id="r3")
    RequestRecord.objects.filter(tenant_id=10**9).delete()


@pytest.mark.django_db
def test_old_ones_and_those_beyond_the_bound_are_deleted() -> None:
    now_s = time.time()
    services.write([entry(n, at_s=now_s - n * 86_400) for n in range(10)])
    deleted = services.forget(before=datetime.now(UTC) - timedelta(days=7, hours=1), keep=100)
    assert (deleted, RequestRecord.objects.count()) == (2, 8)
    services.forget(before=datetime.now(UTC) - timedelta(days=30), keep=3)
    kept = RequestRecord.objects.values_list("request_id", flat=True)
    assert list(kept)[:3] == ["r0", "r1", "r2"]
    assert len(kept) <= 4


async def test_what_was_dropped_is_told_to_who_reads_the_list(
    redis_url: str, settings: Any
) -> None:
    settings.REDIS_CACHE_URL = redis_url
    with dropped._client() as client:
        for key in client.scan_iter("relay:requests:dropped:*"):
            client.delete(key)
    writers = [Writer(Book(max_kept=0)) for _ in range(2)]
    for writer in writers:
        for number in range(3):
            writer.note(entry(number))
        await writer.flush()
        await writer.flush()  # told once
    assert dropped.lately() == {"full": 6}
    settings.REDIS_CACHE_URL = "redis://127.0.0.1:1/0"
    writers[0].note(entry())
    await writers[0].flush()  # and nothing fails for it


def test_the_list_says_what_is_not_in_it(operator: Client, redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url
    dropped.add({"flood": 1_234})
    page = operator.get(reverse("admin:requests_requestrecord_changelist")).content.decode()
    assert "data-dropped" in page
    assert "of tenants who failed too often" in page
    settings.REDIS_CACHE_URL = "redis://127.0.0.1:1/0"
    assert operator.get(reverse("admin:requests_requestrecord_changelist")).status_code == 200
