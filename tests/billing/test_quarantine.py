"""What never reached the ledger is told, and can be received again once, or given up."""

from __future__ import annotations

import threading
from io import StringIO

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from billing.metering import chain, quarantine
from billing.metering.batch import BatchId, UsageLine, encode
from billing.metering.ingest import ingest, receive
from billing.metering.reconcile import reconcile
from billing.models import LedgerEntry, QuarantinedBatch, UsageBatch
from tenants import services
from tests.billing.usage import WORKER, make_batch, use
from tests.tenants.cast import Cast


@pytest.fixture
def key(cast: Cast) -> int:
    return services.issue_key(tenant=cast.acme, name="bot").key.pk


def told() -> list[tuple[str, str]]:
    return [(difference.check, difference.where) for difference in reconcile()]


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("quarantine", *map(str, arguments), stdout=out)
    return out.getvalue()


def messages() -> list[int]:
    rows = LedgerEntry.objects.filter(metric="messages").order_by("pk")
    return list(rows.values_list("units", flat=True))


def test_holes_below_a_worker_s_highest_number_are_told(key: int) -> None:
    for seq in (2, 3, 6, 7, 9):
        use(key, 1, seq=seq)
    use(key, 1, seq=1)
    receive(BatchId(WORKER, 5), "nonsense")
    assert told() == [
        ("missing batch", f"{WORKER} #4"),
        ("missing batch", f"{WORKER} #8"),
        ("quarantine", f"{WORKER} #5"),
    ]
    for seq in (4, 8):
        use(key, 1, seq=seq)
    assert run("discard", QuarantinedBatch.objects.get().pk).endswith(": discarded\n")
    assert told() == []


def test_a_batch_that_is_overtaken_during_the_run_is_no_hole(
    key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(key, 1, seq=1)
    use(key, 1, seq=3)
    faults = chain.faults

    def meanwhile(account: object) -> object:
        ingest(make_batch(UsageLine(key, "bbo", 1, 0, 0), seq=2))
        ingest(make_batch(UsageLine(key, "bbo", 1, 0, 0), seq=5))
        return faults(account)  # type: ignore[arg-type]

    monkeypatch.setattr(chain, "faults", meanwhile)
    assert list(reconcile()) == []
    monkeypatch.undo()
    assert told() == [("missing batch", f"{WORKER} #4")]


def test_an_id_that_comes_again_with_other_units_is_put_aside_once(key: int) -> None:
    first = make_batch(UsageLine(key, "bbo", 5, 50, 0))
    other = make_batch(UsageLine(key, "bbo", 6, 50, 0))
    assert receive(first.id, encode(first).decode())
    assert not receive(first.id, encode(first).decode())
    assert told() == []
    for _ in range(2):
        assert not receive(other.id, encode(other).decode())
        assert not ingest(other)
    row = QuarantinedBatch.objects.get()
    assert row.reason == "counted before, otherwise: message_total 6, counted 5"
    assert messages() == [5]
    assert told() == [("quarantine", f"{WORKER} #1")]

    with pytest.raises(CommandError, match="1 of 1 failed"):
        run("release", row.pk)
    assert row.reason in run("list")
    run("discard", row.pk)
    assert (messages(), told(), run("list")) == ([5], [], "")


def test_what_was_mended_is_received_again_exactly_once(committed_cast: Cast) -> None:
    key = services.issue_key(tenant=committed_cast.acme, name="bot").key.pk
    batch = make_batch(UsageLine(key, "bbo", 5, 50, 0))
    newer = encode(msgspec.structs.replace(batch, v=99)).decode()
    assert not receive(batch.id, newer)
    row = QuarantinedBatch.objects.get()
    with pytest.raises(CommandError, match="1 of 1 failed"):
        run("release", row.pk)
    # As an installed release that reads it would find it.
    QuarantinedBatch.objects.update(text=encode(batch).decode())
    counted: list[bool] = []
    start = threading.Barrier(2)

    def release() -> None:
        start.wait()
        try:
            counted.append(quarantine.release(row.pk))
        except QuarantinedBatch.DoesNotExist:
            counted.append(False)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=release) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(counted) == [False, True]
    assert messages() == [5]
    assert told() == []


def test_a_lost_batch_is_given_up_and_still_cannot_be_slipped_in(key: int) -> None:
    use(key, 1, seq=2)
    assert told() == [("missing batch", f"{WORKER} #1")]
    assert "discarded" in run("discard", f"{WORKER}-0000000001")
    assert "nothing to discard" in run("discard", f"{WORKER}-0000000002")
    assert told() == []
    ingest(make_batch(UsageLine(key, "bbo", 5, 50, 0)))
    assert told() == [("quarantine", f"{WORKER} #1")]
    assert UsageBatch.objects.count() == 2


def test_what_is_no_row_and_no_id_is_said(db: None) -> None:
    for arguments in (("release", "7"), ("discard", "7"), ("discard", "nonsense")):
        with pytest.raises(CommandError, match="1 of 1 failed"):
            run(*arguments)
