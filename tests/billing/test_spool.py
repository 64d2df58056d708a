"""A sealed batch stays on disk until the database has it, whatever is lost on the way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.metering import spool as spool_module
from billing.metering.batch import Batch, BatchId, parse_batch_id
from billing.metering.meter import Meter
from billing.metering.spool import WINDOW, Shipper, Spool, recover
from tests.billing.ledger import Ledger

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
DEADLINE_S = 10.0


class Loop:
    """A thread that counts, in place of an event loop."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def call_soon(self, call: Callable[[], None]) -> None:
        self._calls.put(call)

    def run(self, call: Callable[[], None]) -> None:
        """Run `call` there and wait for it."""
        done = threading.Event()
        self.call_soon(lambda: (call(), done.set()) and None)
        assert done.wait(DEADLINE_S)

    def stop(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class House:
    """Shippers of one machine, and the way to a database that a test can cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meters = folder / "meters"
        self.ledger = Ledger(folder / "ledger")
        self.loop = Loop()
        self.sent: queue.SimpleQueue[BatchId] = queue.SimpleQueue()
        self.acknowledged: set[BatchId] = set()
        self.loses_messages = self.loses_answers = False
        self.broker_is_down = self.redis_is_down = False
        self.now = NOON
        self._shippers: list[Shipper] = []

    def shipper(self, *, interval_s: float = 0.01) -> Shipper:
        made = Shipper(
            Meter.create(self.meters, now=self.now),
            self.folder / "spool",
            ship=self._ship,
            acknowledged=self._acknowledged,
            call_soon=self.loop.call_soon,
            interval_s=interval_s,
            resend_after_s=0.05,
            now=lambda: self.now,
        )
        self._shippers.append(made)
        return made

    def count(self, shipper: Shipper, messages: int) -> None:
        self.loop.run(lambda: shipper.meter.add(shipper.meter.slot(7, "bbo"), messages, 0))

    def next_sent(self) -> BatchId:
        return self.sent.get(timeout=DEADLINE_S)

    def close(self) -> None:
        for shipper in self._shippers:
            shipper.stop(final=False)
        self.loop.stop()

    def _ship(self, batch_id: BatchId, payload: bytes) -> None:
        if self.broker_is_down:
            raise ConnectionError("the broker is down")
        if not self.loses_messages:
            self.ledger.ingest(batch_id, payload)
            self.acknowledged.add(batch_id)
        self.sent.put(batch_id)

    def _acknowledged(self, batch_ids: object) -> set[BatchId]:
        if self.redis_is_down:
            raise ConnectionError("redis is down")
        return set() if self.loses_answers else self.acknowledged & set(batch_ids)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(spool_module, "ACK_CHECK_S", 0.01)
    monkeypatch.setattr(spool_module, "BROKER_PAUSE_S", 0.01)
    made = House(tmp_path)
    yield made
    made.close()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something another thread brings about."""
    event, deadline = threading.Event(), int(DEADLINE_S / 0.005)
    for _ in range(deadline):
        if is_so():
            return
        event.wait(0.005)
    raise AssertionError("not within the deadline")


def test_what_is_counted_arrives_and_the_spool_is_empty_again(house: House) -> None:
    shipper = house.shipper()
    house.count(shipper, 5)
    shipper.start()
    house.next_sent()
    until(lambda: shipper.spool.ids() == [])
    assert house.ledger.sums() == {(7, "bbo", "messages"): 5}


def test_a_lost_message_is_sent_again(house: House) -> None:
    shipper = house.shipper()
    house.count(shipper, 5)
    house.loses_messages = True
    shipper.start()
    first = house.next_sent()
    assert shipper.spool.holds(first)
    assert house.next_sent() == first
    house.loses_messages = False
    until(lambda: shipper.spool.ids() == [])
    assert house.ledger.sums() == {(7, "bbo", "messages"): 5}


def test_a_lost_answer_keeps_the_batch_and_counts_nothing_twice(house: House) -> None:
    shipper = house.shipper()
    house.count(shipper, 5)
    house.loses_answers = True
    shipper.start()
    first = house.next_sent()
    assert house.next_sent() == first
    assert shipper.spool.holds(first)
    house.loses_answers = False
    until(lambda: shipper.spool.ids() == [])
    assert house.ledger.sums() == {(7, "bbo", "messages"): 5}


def test_broker_and_redis_down_lose_nothing(house: House) -> None:
    shipper = house.shipper()
    house.broker_is_down = house.redis_is_down = True
    shipper.start()
    for _ in range(3):
        before = len(shipper.spool.ids())
        house.count(shipper, 1)
        until(lambda before=before: len(shipper.spool.ids()) > before)  # type: ignore[misc]
    house.broker_is_down = house.redis_is_down = False
    until(lambda: shipper.spool.ids() == [])
    assert house.ledger.sums() == {(7, "bbo", "messages"): 3}


def test_a_full_disk_keeps_counting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shipper = house.shipper()
    tried = threading.Event()

    def full(self: Spool, batch: Batch) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "keep", full)
        house.count(shipper, 5)
        shipper.start()
        assert tried.wait(DEADLINE_S)
        house.count(shipper, 2)
    until(lambda: house.ledger.sums() == {(7, "bbo", "messages"): 7})
    until(lambda: shipper.spool.ids() == [])
    assert [batch.seq for batch in house.ledger.batches()] == [1, 2]


def test_a_stop_sends_what_is_left_and_leaves_no_file(house: House) -> None:
    shipper = house.shipper(interval_s=3_600)
    shipper.start()
    house.count(shipper, 5)
    house.loop.run(shipper.stop)
    assert house.ledger.sums() == {(7, "bbo", "messages"): 5}
    assert list(house.meters.iterdir()) == []
    # Not acknowledged yet, so it waits; whoever comes next sends it again, and that counts once.
    assert len(shipper.spool.ids()) == 1
    house.count(shipper, 1)  # too late to be billed, and no reason to crash


def test_the_next_process_adopts_what_a_dead_one_left(house: House) -> None:
    dead = house.shipper(interval_s=3_600)
    house.count(dead, 5)
    dead.meter.begin_seal(NOON)
    house.count(dead, 2)
    dead.meter.file.close()  # the lock goes, as at a death; the file stays

    alive = house.shipper(interval_s=3_600)
    alive.start()
    until(lambda: house.ledger.sums() == {(7, "bbo", "messages"): 7})
    until(lambda: alive.spool.ids() == [])
    assert [path.stem for path in house.meters.iterdir()] == [alive.meter.worker]


def test_a_living_process_s_batches_are_left_to_it(house: House) -> None:
    one, two = house.shipper(interval_s=3_600), house.shipper(interval_s=3_600)
    house.count(one, 5)
    one.meter.begin_seal(NOON)
    one.spool.keep(one.meter.batch())
    house.count(two, 1)
    house.loop.run(two.stop)
    assert house.next_sent().worker == two.meter.worker
    assert house.sent.empty()


def test_no_more_than_a_window_is_on_its_way(house: House) -> None:
    shipper = house.shipper(interval_s=3_600)
    for _ in range(WINDOW + 20):
        house.count(shipper, 1)
        shipper.meter.begin_seal(NOON)
        shipper.spool.keep(shipper.meter.batch())
        shipper.meter.finish_seal()
    house.loses_answers = True
    shipper.start()
    for _ in range(WINDOW):
        house.next_sent()
    assert len(house.ledger.batches()) == WINDOW
    house.loses_answers = False
    until(lambda: shipper.spool.ids() == [])
    assert house.ledger.sums() == {(7, "bbo", "messages"): WINDOW + 20}


def test_the_hour_ends_on_time(house: House) -> None:
    house.now = NOON + timedelta(minutes=59, seconds=59, milliseconds=995)
    shipper = house.shipper(interval_s=3_600)
    assert 0.005 <= shipper._until_seal_s() < 0.01
    house.now = NOON
    assert shipper._until_seal_s() == pytest.approx(3_600)


def test_an_unreadable_meter_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "x.meter").write_bytes(b"nonsense")
    assert recover(tmp_path, Spool(tmp_path / "spool"), now=NOON) == 0
    assert (tmp_path / "x.meter.bad").read_bytes() == b"nonsense"


def test_files_of_strangers_in_the_spool_are_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    assert spool.ids() == []


@given(st.uuids(), st.integers(1, 9_999_999_999))
def test_parse_batch_id_inverts_str(worker: object, seq: int) -> None:
    batch_id = BatchId(worker.hex, seq)  # type: ignore[attr-defined]
    assert parse_batch_id(str(batch_id)) == batch_id
