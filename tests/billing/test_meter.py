"""What is counted is sealed exactly once, in the hour it was counted in."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from billing.metering.batch import Batch, MalformedBatch, UsageLine, decode, encode
from billing.metering.meter import OVERFLOW_KEY_ID, Meter
from billing.metering.slots import GROW_SLOTS, MeterFile, NotAMeterFile, is_locked

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def make_meter(folder: Path, **options: int) -> Meter:
    return Meter.create(folder, now=NOON, **options)


def seal(meter: Meter, now: datetime) -> Batch | None:
    if meter.begin_seal(now) is None:
        return None
    batch = meter.batch()
    meter.finish_seal()
    return batch


def test_a_batch_holds_what_was_counted_since_the_last(tmp_path: Path) -> None:
    meter = make_meter(tmp_path)
    book, info = meter.slot(7, "l2Book"), meter.slot(7, "info")
    assert meter.slot(7, "l2Book") == book
    meter.add(book, 3, 4_800)
    meter.add_requests(info, 2)
    first = seal(meter, NOON)
    assert first is not None
    assert first.lines == [UsageLine(7, "l2Book", 3, 4_800, 0), UsageLine(7, "info", 0, 0, 2)]
    assert (first.worker, first.seq, first.hour) == (meter.worker, 1, NOON)

    assert seal(meter, NOON) is None
    meter.add(book, 1, 100)
    second = seal(meter, NOON)
    assert second is not None
    assert (second.seq, second.lines) == (2, [UsageLine(7, "l2Book", 1, 100, 0)])
    assert meter.totals(book) == (4, 4_900, 0)


def test_what_is_counted_while_a_batch_is_written_goes_into_the_next(tmp_path: Path) -> None:
    meter = make_meter(tmp_path)
    slot = meter.slot(7, "trades")
    meter.add(slot, 1, 10)
    begun = meter.begin_seal(NOON)
    meter.add(slot, 5, 50)
    late = meter.slot(8, "trades")
    meter.add(late, 2, 20)
    assert meter.begin_seal(NOON) == begun  # still being written: the same batch
    assert meter.batch().lines == [UsageLine(7, "trades", 1, 10, 0)]
    meter.finish_seal()
    rest = seal(meter, NOON)
    assert rest is not None
    assert rest.lines == [UsageLine(7, "trades", 5, 50, 0), UsageLine(8, "trades", 2, 20, 0)]


def test_a_batch_belongs_to_the_hour_it_was_counted_in(tmp_path: Path) -> None:
    meter = make_meter(tmp_path)
    slot = meter.slot(7, "bbo")
    meter.add(slot, 1, 1)
    before = seal(meter, NOON + timedelta(hours=1, milliseconds=1))
    meter.add(slot, 1, 1)
    after = seal(meter, NOON + timedelta(hours=1, seconds=5))
    assert before is not None
    assert after is not None
    assert (before.hour, after.hour) == (NOON, NOON + timedelta(hours=1))


def test_the_file_grows_under_a_running_seal(tmp_path: Path) -> None:
    meter = make_meter(tmp_path)
    meter.add(meter.slot(1, "bbo"), 1, 1)
    meter.begin_seal(NOON)
    for key_id in range(2, 3 * GROW_SLOTS):
        meter.add(meter.slot(key_id, "bbo"), key_id, 0)
    assert len(meter.batch().lines) == 1
    meter.finish_seal()
    rest = seal(meter, NOON)
    assert rest is not None
    assert {line.key_id: line.messages for line in rest.lines} == {
        key_id: key_id for key_id in range(2, 3 * GROW_SLOTS)
    }


def test_what_has_no_slot_counts_as_key_0(tmp_path: Path) -> None:
    meter = make_meter(tmp_path, max_slots=3)
    slots = [meter.slot(key_id, "bbo") for key_id in range(1, 6)]
    for slot in slots:
        meter.add(slot, 1, 10)
    batch = seal(meter, NOON)
    assert batch is not None
    counted = {line.key_id: line.messages for line in batch.lines}
    assert counted == {OVERFLOW_KEY_ID: 3, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("key_id", "channel"), [(-1, "bbo"), (2**63, "bbo"), (1, ""), (1, "a b"), (1, "x" * 33)]
)
def test_a_slot_needs_a_key_and_a_channel(tmp_path: Path, key_id: int, channel: str) -> None:
    with pytest.raises(ValueError, match=r"key_id|channel"):
        make_meter(tmp_path).slot(key_id, channel)


def test_a_living_worker_s_file_cannot_be_taken_over(tmp_path: Path) -> None:
    meter = make_meter(tmp_path)
    assert is_locked(meter.file.path)
    assert MeterFile.take_over(meter.file.path) is None
    meter.file.close()
    assert not is_locked(meter.file.path)
    assert MeterFile.take_over(meter.file.path) is not None


@given(st.binary(max_size=9_000))
def test_garbage_is_not_a_meter_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "x.meter"
    path.write_bytes(data)
    with pytest.raises(NotAMeterFile):
        MeterFile.take_over(path)


class MeterLaws(RuleBasedStateMachine):
    """The sum of all batches and of what is not sealed yet is what was counted."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.meter = make_meter(Path(self.folder.name))
        self.now = NOON
        self.counted: Counter[tuple[int, str]] = Counter()
        self.sealed: Counter[tuple[int, str]] = Counter()

    @rule(key_id=st.integers(0, 3), channel=st.sampled_from(["bbo", "info"]), n=st.integers(0, 99))
    def count(self, key_id: int, channel: str, n: int) -> None:
        self.meter.add(self.meter.slot(key_id, channel), n, 2 * n)
        self.counted[key_id, channel] += n

    @rule(minutes=st.integers(-90, 90))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def begin(self) -> None:
        self.meter.begin_seal(self.now)

    @rule()
    def finish(self) -> None:
        if self.meter.file.is_sealing:
            batch = decode(encode(self.meter.batch()))
            for line in batch.lines:
                assert line.payload_bytes == 2 * line.messages
                self.sealed[line.key_id, line.channel] += line.messages
            self.meter.finish_seal()

    @invariant()
    def nothing_is_sealed_twice(self) -> None:
        assert all(self.sealed[key] <= self.counted[key] for key in self.sealed)

    def teardown(self) -> None:
        self.finish()
        self.begin()
        self.finish()
        assert +self.sealed == +self.counted
        self.folder.cleanup()


TestMeterLaws = MeterLaws.TestCase

GOOD = encode(Batch(v=2, worker="0" * 32, seq=1, hour=NOON, lines=[UsageLine(1, "bbo", 1, 2, 0)]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":2', b'"v":3'),
        (b"0" * 32, b"0" * 31),
        (b'"seq":1', b'"seq":0'),
        (b"12:00:00", b"12:30:00"),
        (b"12:00:00Z", b"12:00:00"),
        (b"12:00:00Z", b"12:00:00+01:00"),
        (b"1,2,0", b"1,-2,0"),
        (b"1,2,0", b"1,2.5,0"),
        (b"1,2,0", b"1,2"),
        (b"1,2,0", b"1,9223372036854775808,0"),
        (b'"bbo"', b'""'),
        (b'"bbo"', b'"b b"'),
        (b"}", b""),
    ],
)
def test_a_batch_is_checked_in_every_field(old: bytes, new: bytes) -> None:
    assert encode(decode(GOOD)) == GOOD
    assert old in GOOD
    with pytest.raises(MalformedBatch):
        decode(GOOD.replace(old, new))


@given(st.binary() | st.text())
def test_anything_else_is_malformed(data: bytes | str) -> None:
    with pytest.raises(MalformedBatch):
        decode(data)


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=8), max_size=6))
def test_what_was_used_since_is_told_once_and_takes_nothing_from_a_batch(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[int, int]]]
) -> None:
    meter = make_meter(tmp_path_factory.mktemp("meter"))
    told: Counter[tuple[int, str]] = Counter()
    counted: Counter[tuple[int, str]] = Counter()
    for counts in rounds:
        for key_id, messages in counts:
            meter.add(meter.slot(key_id, "bbo"), messages, 100 * messages)
            meter.add_requests(meter.slot(key_id, "info"), 1)
            counted[key_id, "bbo"] += messages
            counted[key_id, "info"] += 1
        if len(counts) % 2:
            seal(meter, NOON)  # a seal in between changes nothing
        for use in (use for piece in meter.used_since() for use in piece):
            assert use.payload_bytes == 100 * use.messages
            told[use.key_id, use.channel] += use.messages + use.requests
        assert told == +counted


def test_many_slots_are_told_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.metering.meter.SLOTS_AT_A_TIME", 3)
    meter = make_meter(tmp_path)
    for key_id in range(1, 8):
        meter.add(meter.slot(key_id, "bbo"), key_id, 0)
    pieces = [[use.key_id for use in piece] for piece in meter.used_since()]
    assert pieces == [[1, 2], [3, 4, 5], [6, 7]]  # the first is the overflow's
    assert not any(meter.used_since())
    meter.add(meter.slot(8, "bbo"), 1, 0)
    assert [use.key_id for piece in meter.used_since() for use in piece] == [8]
