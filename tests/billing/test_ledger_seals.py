"""Every batch is posted to its tenant's account, and each hour seals what was posted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from billing import tasks
from billing.metering import chain
from billing.metering.batch import UsageLine
from billing.metering.ingest import ingest
from billing.models import NO_SEAL, Account, LedgerEntry, LedgerSeal
from tenants import services
from tests.billing.usage import HOUR, everything, make_batch, seals, use
from tests.tenants.cast import Cast


def faults() -> list[tuple[str, str]]:
    return [fault for account in Account.objects.all() for fault in chain.faults(account)]


def key_of(cast: Cast) -> int:
    return services.issue_key(tenant=cast.acme, name="bot").key.pk


def test_entries_follow_each_other_without_holes_in_each_account(cast: Cast) -> None:
    ada, cleo = key_of(cast), services.issue_key(tenant=cast.other, name="bot").key.pk
    ingest(make_batch(UsageLine(ada, "bbo", 5, 50, 0), UsageLine(cleo, "bbo", 7, 0, 2)))
    ingest(make_batch(UsageLine(ada, "bbo", 1, 0, 0), UsageLine(424_242, "bbo", 9, 0, 0), seq=2))

    rows = LedgerEntry.objects.for_tenant(cast.acme).values_list(
        "position", "metric", "units", "batch__flush_seq", "zero_rated"
    )
    assert list(rows) == [
        (1, "bytes", 50, 1, ""),
        (2, "messages", 5, 1, ""),
        (3, "messages", 1, 2, ""),
    ]
    other = LedgerEntry.objects.for_tenant(cast.other).values_list("position", "metric", "units")
    assert list(other) == [(1, "messages", 7), (2, "requests", 2)]
    assert LedgerEntry.objects.get(account=0).key_id == 424_242
    assert [account.tenant_id for account in Account.objects.all()] == [
        None,
        cast.acme.pk,
        cast.other.pk,
    ]


def test_a_late_batch_is_posted_to_its_hour_and_sealed_later(cast: Cast) -> None:
    key = key_of(cast)
    use(key, 5, seq=1)
    assert chain.seal_ledger(HOUR) == 1
    before = LedgerSeal.objects.get()
    use(key, 3, seq=2)
    use(key, 4, seq=3, hours=1)
    assert chain.seal_ledger(HOUR + timedelta(hours=1)) == 1

    assert seals(cast.acme) == [(1, HOUR, 1, 2), (2, HOUR + timedelta(hours=1), 3, 6)]
    first, second = LedgerSeal.objects.for_tenant(cast.acme)
    assert first.sha256 == before.sha256
    assert (first.previous_sha256, second.previous_sha256) == (NO_SEAL, first.sha256)
    assert (second.first_hour, second.last_hour) == (HOUR, HOUR + timedelta(hours=1))
    assert faults() == []


def test_sealing_again_makes_nothing(cast: Cast) -> None:
    use(key_of(cast), 5, seq=1)
    assert [chain.seal_ledger(HOUR) for _ in range(5)] == [1, 0, 0, 0, 0]
    use(key_of(cast), 5, seq=2)
    assert chain.seal_ledger(HOUR) == 0  # its hour has a seal: the next one has it
    assert chain.seal_ledger(HOUR + timedelta(hours=9)) == 1
    assert chain.seal_ledger(HOUR + timedelta(hours=10)) == 0  # nothing was posted
    assert faults() == []


def test_sealing_ahead_of_time_stops_nobody(cast: Cast) -> None:
    use(key_of(cast), 5, seq=1)
    assert chain.seal_ledger(HOUR + timedelta(days=30)) == 1
    for hours in (0, 1):
        use(key_of(cast), 5, seq=2 + hours)
        assert [chain.seal_ledger(HOUR + timedelta(hours=hours)) for _ in range(2)] == [1, 0]
    assert [last for *_, last in seals(cast.acme)] == [2, 4, 6]
    assert faults() == []


def test_posting_and_another_sealer_come_between_while_entries_are_hashed(
    committed_cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing holds no lock: another connection posts and seals meanwhile, and its seal counts."""
    key = key_of(committed_cast)
    use(key, 5, seq=1)
    hashing, done = chain.digest, []

    def meanwhile() -> None:
        try:
            use(key, 7, seq=2)
            done.append(chain.seal_ledger(HOUR + timedelta(hours=1)))
        finally:
            connections.close_all()

    def digest(entries: Iterable[LedgerEntry]) -> chain.Digest | None:
        monkeypatch.setattr(chain, "digest", hashing)
        found = hashing(entries)
        other = threading.Thread(target=meanwhile)
        other.start()
        other.join(20)
        return found

    monkeypatch.setattr(chain, "digest", digest)
    assert chain.seal_ledger(HOUR) == 0
    assert done == [1]
    assert [last for *_, last in seals(committed_cast.acme)] == [4]
    assert faults() == []


def test_entries_are_read_a_page_at_a_time(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(cast)
    for seq in range(1, 6):
        use(key, 1, seq=seq)
    whole = list(chain.entries_between(cast.acme.pk, 2, 9))
    monkeypatch.setattr(chain, "_PAGE", 3)
    with CaptureQueriesContext(connection) as queries:
        assert list(chain.entries_between(cast.acme.pk, 2, 9)) == whole
    assert [entry.position for entry in whole] == list(range(2, 10))
    assert len(queries) == 3
    assert all(query["sql"].endswith("LIMIT 3") for query in queries)


def test_beat_seals_the_hour_that_has_ended(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    use(key_of(cast), 5, seq=1)
    now = datetime(2026, 11, 23, 13, 59, 59, tzinfo=UTC)
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    for _ in range(3):
        tasks.seal_ledger()
    assert seals(cast.acme) == [(1, HOUR, 1, 2)]


class _KilledError(Exception):
    pass


def _dying_at(statement: int) -> Callable[..., object]:
    """Lets statements through until that one."""
    left = [statement]

    def wrapper(execute: Callable[..., object], *arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise _KilledError
        return execute(*arguments)

    return wrapper


@pytest.mark.parametrize("step", ["ingest", "seal"])
def test_whoever_is_stopped_between_statements_leaves_what_the_next_needs(
    committed_cast: Cast, step: str
) -> None:
    keys = [
        key_of(committed_cast),
        services.issue_key(tenant=committed_cast.other, name="b").key.pk,
    ]
    batch = make_batch(*(UsageLine(key, "bbo", 5, 50, 1) for key in keys))

    def act() -> None:
        if step == "ingest":
            ingest(batch)
        else:
            chain.seal_ledger(HOUR)

    if step == "seal":
        ingest(batch)
    for statement in range(100):
        try:
            with connection.execute_wrapper(_dying_at(statement)):
                act()
        except _KilledError:
            assert LedgerEntry.objects.count() in ({0, 6} if step == "ingest" else {6})
            continue
        break
    assert statement > 4
    act()
    assert faults() == []
    after = everything()
    assert len(after["entries"]) == 6
    assert len(after["seals"]) == (0 if step == "ingest" else 2)


def test_posting_and_sealing_at_once(committed_cast: Cast) -> None:
    keys = [
        key_of(committed_cast),
        services.issue_key(tenant=committed_cast.other, name="b").key.pk,
    ]
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def run(act: Callable[[int], object]) -> None:
        start.wait()
        try:
            for turn in range(12):
                act(turn)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    def post(worker: str) -> Callable[[int], object]:
        order = keys if worker == "b" else [*reversed(keys)]
        lines = [UsageLine(key, "bbo", 1, 1, 1) for key in order]
        return lambda turn: ingest(make_batch(*lines, seq=turn + 1, worker=worker * 32))

    acts = [
        post("b"),
        post("c"),
        *[lambda turn: chain.seal_ledger(HOUR + timedelta(hours=turn))] * 2,
    ]
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    chain.seal_ledger(HOUR + timedelta(days=1))
    assert LedgerEntry.objects.count() == 2 * 12 * 2 * 3
    assert faults() == []
    sealed = [last for *_, last in seals(committed_cast.acme)]
    assert sealed[-1] == 12 * 2 * 3
