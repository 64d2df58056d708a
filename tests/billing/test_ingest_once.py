"""Ingesting a batch twice is ingesting it once, in whatever order and by however many at a time."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from billing.metering.batch import Batch, BatchId, UsageLine, encode
from billing.metering.ingest import ingest, receive
from billing.metering.rollup import Usage, usage_per_day, usage_per_hour, usage_total
from billing.models import QuarantinedBatch, UsageBatch, UsageRollup
from tenants import services
from tests.tenants.cast import Cast

HOUR = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORKERS = ["a" * 32, "b" * 32]


def make_batch(
    *lines: UsageLine, seq: int = 1, worker: str = WORKERS[0], hour: datetime = HOUR
) -> Batch:
    return Batch(v=1, worker=worker, seq=seq, hour=hour, lines=list(lines))


def rollups() -> Counter[tuple[datetime, int, str, str]]:
    rows = UsageRollup.objects.values_list("hour", "key_id", "metric", "channel", "units")
    return Counter({(hour, key, metric, channel): n for hour, key, metric, channel, n in rows})


def expected(batches: list[Batch]) -> Counter[tuple[datetime, int, str, str]]:
    sums: Counter[tuple[datetime, int, str, str]] = Counter()
    for batch in batches:
        for line in batch.lines:
            place = (batch.hour, line.key_id)
            sums[*place, "messages", line.channel] += line.messages
            sums[*place, "bytes", line.channel] += line.payload_bytes
            sums[*place, "requests", line.channel] += line.requests
    return +sums


units = st.integers(0, 10**12)
lines = st.builds(
    UsageLine, st.integers(1, 3), st.sampled_from(["bbo", "l2Book", "info"]), units, units, units
)
contents = st.tuples(st.integers(0, 2), st.lists(lines, max_size=4))


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Batch], list[Batch]]:
    """Some batches, and the same as they arrive: at least once each, repeated, in any order."""
    drawn = draw(st.lists(contents, max_size=5))
    batches = [
        make_batch(*body, seq=1 + place // 2, worker=WORKERS[place % 2], hour=HOUR + late)
        for place, (hours, body) in enumerate(drawn)
        for late in (timedelta(hours=hours),)
    ]
    if not batches:
        return [], []
    again = draw(st.lists(st.sampled_from(batches), max_size=8))
    return batches, draw(st.permutations(batches + again))


class IngestLaws(TestCase):
    @given(deliveries())
    @settings(max_examples=60)
    def test_the_rollups_are_those_of_each_batch_once(
        self, drawn: tuple[list[Batch], list[Batch]]
    ) -> None:
        batches, arriving = drawn
        counted = [ingest(batch) for batch in arriving]
        assert sum(counted) == len(batches) == UsageBatch.objects.count()
        assert rollups() == expected(batches)

    @given(st.binary(max_size=200) | st.just(encode(make_batch(seq=2))))
    @settings(max_examples=40)
    def test_what_cannot_be_read_is_kept_word_for_word(self, data: bytes) -> None:
        text = data.decode("latin-1")
        for _ in range(2):
            assert receive(BatchId(WORKERS[0], 1), text) is False
        kept = QuarantinedBatch.objects.get()
        assert (kept.text, kept.flush_seq) == (text, 1)
        assert not UsageBatch.objects.exists()


def test_usage_goes_to_the_tenant_of_its_key(cast: Cast) -> None:
    ada = services.issue_key(tenant=cast.acme, name="bot").key
    cleo = services.issue_key(tenant=cast.other, name="bot").key
    day_later = HOUR + timedelta(days=1)
    ingest(make_batch(UsageLine(ada.pk, "bbo", 5, 50, 0), UsageLine(cleo.pk, "bbo", 7, 70, 0)))
    ingest(make_batch(UsageLine(ada.pk, "bbo", 1, 10, 2), seq=2))
    ingest(make_batch(UsageLine(ada.pk, "l2Book", 3, 30, 0), seq=3, hour=day_later))

    period = {"tenant_id": cast.acme.pk, "start": HOUR, "end": day_later + timedelta(hours=1)}
    assert usage_per_hour(**period) == [
        Usage(HOUR, "bytes", "bbo", 60),
        Usage(HOUR, "messages", "bbo", 6),
        Usage(HOUR, "requests", "bbo", 2),
        Usage(day_later, "bytes", "l2Book", 30),
        Usage(day_later, "messages", "l2Book", 3),
    ]
    noon_day = HOUR.replace(hour=0)
    assert usage_per_day(**period)[0] == Usage(noon_day, "bytes", "bbo", 60)
    assert usage_total(**period) == {"bytes": 90, "messages": 9, "requests": 2}
    assert usage_total(**{**period, "end": day_later}) == {
        "bytes": 60,
        "messages": 6,
        "requests": 2,
    }
    assert usage_total(**period, key_id=cleo.pk) == {}
    ada.refresh_from_db()
    assert ada.last_used_at is not None


def test_usage_of_a_key_nobody_knows_is_kept_on_nobody_s_bill(cast: Cast) -> None:
    assert ingest(make_batch(UsageLine(424_242, "bbo", 5, 50, 0)))
    rows = UsageRollup.objects.filter(tenant=None)
    assert {(row.key_id, row.metric, row.units) for row in rows} == {
        (424_242, "messages", 5),
        (424_242, "bytes", 50),
    }


def test_a_batch_too_large_for_one_statement(cast: Cast) -> None:
    batch = make_batch(*(UsageLine(key_id, "bbo", 1, 1, 1) for key_id in range(1, 1_501)))
    assert ingest(batch)
    assert rollups() == expected([batch])


def test_sums_beyond_a_row_are_put_aside_not_retried_for_ever(cast: Cast) -> None:
    batch = make_batch(UsageLine(1, "bbo", 2**63 - 1, 0, 0), UsageLine(2, "bbo", 1, 0, 0))
    assert receive(batch.id, encode(batch).decode()) is False
    assert QuarantinedBatch.objects.get().reason.startswith("its units")


def test_a_failure_half_way_leaves_nothing(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("in the middle")

    batch = make_batch(UsageLine(1, "bbo", 1, 1, 1))
    with monkeypatch.context() as patched:
        patched.setattr("billing.metering.ingest.add_to_rollups", fail)
        with pytest.raises(RuntimeError, match="middle"):
            ingest(batch)
    assert not UsageBatch.objects.exists()
    assert ingest(batch)
    assert rollups() == expected([batch])


def test_the_database_refuses_negative_units(cast: Cast) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        UsageRollup.objects.create(hour=HOUR, key_id=1, metric="bytes", channel="bbo", units=-1)


def test_many_ingesters_at_once_count_once(committed_cast: Cast) -> None:
    batches = [
        make_batch(
            *(UsageLine(key_id, "bbo", 1, 10, 0) for key_id in order), seq=seq, worker=worker
        )
        for seq, order in ((1, (1, 2, 3)), (2, (3, 2, 1)), (3, (2, 3, 1)))
        for worker in (uuid.uuid4().hex,)
    ]
    counted: list[bool] = []
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        try:
            for batch in batches:
                counted.append(ingest(batch))
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert (sum(counted), len(counted)) == (3, 12)
    assert rollups() == expected(batches)
    assert connection.vendor in {"sqlite", "mysql"}
