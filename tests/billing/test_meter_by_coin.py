"""The meter tells coins, reasons and minutes apart, within bounds, and reads files of before."""

from __future__ import annotations

import mmap
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing.metering import meter as meter_module
from billing.metering.batch import Batch, MinutesLine, UsageLine, decode
from billing.metering.layout import MAGIC
from billing.metering.meter import OVERFLOW_KEY_ID, Meter
from billing.metering.spool import Spool, recover

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
HOUR = int(NOON.timestamp()) // 3600


def seal(meter: Meter) -> Batch:
    assert meter.begin_seal(NOON) is not None
    batch = meter.batch()
    meter.finish_seal()
    return batch


def test_a_file_of_version_1_is_read_when_its_worker_is_dead(tmp_path: Path) -> None:
    """As a release before wrote it: one batch begun, and something counted since."""
    worker = uuid.uuid4()
    words = memoryview(bytearray(mmap.PAGESIZE + 1_024 * 16 * 8)).cast("Q")
    hour = int(NOON.timestamp())
    words[:9] = memoryview(
        b"".join(n.to_bytes(8, "little") for n in (MAGIC, 1))
        + worker.bytes
        + b"".join(n.to_bytes(8, "little") for n in (3, 2, 2, hour + 3_600, hour))
    ).cast("Q")
    slots = [
        (7, b"l2Book", (9, 900, 0, 6, 600, 0, 4, 400, 0)),
        (8, b"info", (0, 50, 2, 0, 0, 0, 0, 0, 0)),
    ]
    for number, (key, channel, counts) in enumerate(slots):
        at = mmap.PAGESIZE // 8 + number * 16
        words[at] = key
        words[at + 1 : at + 5] = memoryview(channel.ljust(32, b"\0")).cast("Q")
        for place, n in enumerate(counts):
            words[at + 5 + place] = n
    meters, spool = tmp_path / "meters", Spool(tmp_path / "spool")
    meters.mkdir()
    (meters / f"{worker.hex}.meter").write_bytes(words.tobytes())

    assert recover(meters, spool, now=NOON) == 1
    begun, rest = [decode(spool.read(batch_id) or b"") for batch_id in spool.ids()]
    assert (begun.seq, begun.hour, begun.region) == (3, NOON, "")
    assert begun.lines == [UsageLine(7, "l2Book", 2, 200, 0)]
    assert (rest.seq, rest.hour.hour) == (4, 13)
    assert rest.lines == [UsageLine(7, "l2Book", 3, 300, 0), UsageLine(8, "info", 0, 50, 2)]
    assert begun.minutes == rest.minutes == []
    assert not list(meters.iterdir())


def test_a_batch_tells_coins_reasons_minutes_and_where(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, now=NOON, region="tokyo")
    for coin, reason in (("BTC", ""), ("BTC", "replay"), ("ETH", ""), ("", "")):
        meter.add(meter.slot(7, "bbo", coin, reason), 1, 10)
    meter.mark(7, "BTC", HOUR * 60 + 59)
    meter.mark(7, "BTC", HOUR * 60 + 59)
    meter.mark(7, "BTC", HOUR * 60 + 60)  # before the batch of the hour is sealed
    batch = seal(meter)
    assert batch.region == "tokyo"
    assert [(line.coin, line.reason) for line in batch.lines] == [
        ("BTC", ""),
        ("BTC", "replay"),
        ("ETH", ""),
        ("", ""),
    ]
    assert batch.minutes == [
        MinutesLine(7, "BTC", HOUR, 1 << 59),
        MinutesLine(7, "BTC", HOUR + 1, 1),
    ]
    assert meter.begin_seal(NOON) is None


def test_the_words_of_an_hour_that_is_sealed_are_used_again(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, now=NOON)
    for hour in range(HOUR, HOUR + 48):
        for minute in (0, 1, 59):
            meter.mark(7, "BTC", hour * 60 + minute)
        if hour % 2:
            told = seal(meter).minutes
            mask = 1 | 2 | 1 << 59
            assert told == [MinutesLine(7, "BTC", h, mask) for h in (hour - 1, hour)] or told == [
                MinutesLine(7, "BTC", h, mask) for h in (hour, hour - 1)
            ]
    assert meter.file.slot_count == 1 + 2  # that of key 0, and two of minutes


def test_coins_beyond_the_bound_count_together(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, now=NOON, max_coins=2)
    for coin in ("A", "B", "C", "D", "A"):
        meter.add(meter.slot(7, "bbo", coin), 1, 10)
    meter.add(meter.slot(8, "bbo", "D"), 1, 10)  # of another key
    counted = {(line.key_id, line.coin): line.messages for line in seal(meter).lines}
    assert counted == {(7, "A"): 2, (7, "B"): 1, (7, "other"): 2, (8, "D"): 1}


def test_coins_of_many_keys_leave_room_for_the_keys(tmp_path: Path) -> None:
    """A crowd that follows every coin must not take the slots by which others are charged."""
    meter = Meter.create(tmp_path, now=NOON, max_slots=20)
    for key in range(1, 4):
        for number in range(30):
            meter.add(meter.slot(key, "bbo", f"C{number}"), 1, 10)
    lines = seal(meter).lines
    assert sum(line.messages for line in lines) == 90
    assert OVERFLOW_KEY_ID not in {line.key_id for line in lines}
    assert {line.key_id for line in lines if line.coin == "other"} == {1, 2, 3}


def test_minutes_of_too_many_coins_are_those_of_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter_module, "MAX_FOLLOWED", 2)
    meter = Meter.create(tmp_path, now=NOON)
    for minute, coin in enumerate(("A", "B", "C", "D")):
        meter.mark(7, coin, HOUR * 60 + minute)
    told = {line.coin: line.minutes for line in seal(meter).minutes}
    assert told == {"A": 1, "B": 2, "other": 0b1100}


def test_without_room_minutes_are_not_counted_and_nobody_is_hurt(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, now=NOON, max_slots=2)
    meter.mark(7, "A", HOUR * 60)
    meter.mark(7, "B", HOUR * 60)
    assert [line.coin for line in seal(meter).minutes] == ["A"]


@pytest.mark.parametrize(
    ("coin", "reason"), [("x" * 17, ""), ("a b", ""), ("é", ""), ("", "x" * 17)]
)
def test_names_are_short_and_plain(tmp_path: Path, coin: str, reason: str) -> None:
    meter = Meter.create(tmp_path, now=NOON)
    with pytest.raises(ValueError, match=r"coin|reason"):
        meter.slot(7, "bbo", coin, reason)
    with pytest.raises(ValueError, match="coin"):
        meter.mark(7, coin or "", HOUR * 60)
    with pytest.raises(ValueError, match="region"):
        Meter.create(tmp_path, now=NOON, region="x y")
