"""What the bench writes down: the lines others read, and the table people read."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.report import FANOUTS, Measurement, Report


def fanout(subject: str, offered: int, delivered: float) -> list[Measurement]:
    values = {"deliveries_per_s": delivered, "p50_ms": 0.5123, "p99_ms": 12.5}
    return [
        Measurement(FANOUTS[0], subject, metric, value, "x", offered, 200)
        for metric, value in values.items()
    ]


def filled(path: Path) -> Report:
    report = Report(path=path, commit="abc1234")
    for subject, fast in (("relay", 300_000.0), ("channels", 5_000.0)):
        for measurement in fanout(subject, 50, 10_000.0) + fanout(subject, 1_500, fast):
            report.add(measurement)
    report.add(Measurement("idle", "relay", "bytes_per_connection", 20_480.0, "B", None, 2_000))
    return report


def test_each_measurement_is_one_line_with_all_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    filled(path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 13
    names = ["case", "subject", "metric", "value", "unit", "offered", "clients", "commit", "time"]
    assert all(list(row) == names for row in rows)
    assert rows[-1]["offered"] is None
    assert rows[0]["offered"] == 50


def test_the_table_shows_ratios_and_who_does_not_keep_up(tmp_path: Path) -> None:
    report = filled(tmp_path / "bench.jsonl")
    relay, channels = (
        next(line for line in report.table().splitlines() if line.startswith(name))
        for name in ("relay", "channels")
    )
    assert "300,000" in relay
    assert "*" not in relay
    assert "5,000*" in channels
    assert channels.endswith("60.0 x")


def test_a_new_run_does_not_leave_lines_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    filled(path)
    Report(path=path, commit="def5678")
    assert path.read_text(encoding="utf-8") == ""


def test_a_failure_is_named_below_the_table(tmp_path: Path) -> None:
    report = filled(tmp_path / "bench.jsonl")
    report.failed("hop", "relay", "no book frame within 30 s")
    assert report.failures == 1
    assert report.table().endswith("FAILED hop relay: no book frame within 30 s")
