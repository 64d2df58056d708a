"""What was measured: one line of JSON each, and one table for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

#: Cases whose subjects stand side by side.
FANOUTS = ("fanout-1600b", "fanout-200b")
OURS = "relay"
#: A subject keeps up when at least this share of the offer arrives within the measured window.
KEEPS_UP = 0.99
#: Two offered rates beside each other make a table of 100 columns.
RATES_ABREAST = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number. `offered` is in messages (fan-out) or blocks (hop) per second, or None."""

    case: str
    subject: str
    metric: str
    value: float
    unit: str
    offered: int | None
    clients: int


@dataclass(slots=True)
class Report:
    """Collects a run; every measurement is in the file as soon as it is made."""

    path: Path
    commit: str
    measurements: list[Measurement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failures: int = 0

    def __post_init__(self) -> None:
        """Begin the file anew: it holds one run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("", encoding="utf-8")

    def add(self, measurement: Measurement) -> None:
        """Write one measurement down."""
        self.measurements.append(measurement)
        row = {
            "case": measurement.case,
            "subject": measurement.subject,
            "metric": measurement.metric,
            "value": measurement.value,
            "unit": measurement.unit,
            "offered": measurement.offered,
            "clients": measurement.clients,
            "commit": self.commit,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def remark(self, text: str) -> None:
        """A line under the table."""
        if text not in self.remarks:
            self.remarks.append(text)

    def failed(self, case: str, subject: str, why: str) -> None:
        """A measurement that should have been possible was not."""
        self.failures += 1
        self.remark(f"FAILED {case} {subject}: {why}")

    def table(self) -> str:
        """Everything measured, aligned, with the remarks below."""
        parts = [_fanout([m for m in self.measurements if m.case == case]) for case in FANOUTS]
        parts.append(_plain([m for m in self.measurements if m.case not in FANOUTS]))
        parts.append("\n".join(self.remarks))
        return "\n\n".join(part for part in parts if part)


def _fanout(measurements: list[Measurement]) -> str:
    rates = sorted({m.offered for m in measurements if m.offered is not None})
    blocks = [
        _side_by_side(measurements, rates[i : i + RATES_ABREAST])
        for i in range(0, len(rates), RATES_ABREAST)
    ]
    if any("*" in block for block in blocks):
        blocks.append("* does not keep up: its latency grows with the length of the run")
    return "\n\n".join(blocks)


def _side_by_side(measurements: list[Measurement], rates: list[int]) -> str:
    subjects = list(dict.fromkeys(m.subject for m in measurements))
    value = {(m.subject, m.offered, m.metric): m.value for m in measurements}
    clients = measurements[0].clients
    titles = [f" {rate:,} msg/s x {clients} clients " for rate in rates]
    columns = f"{'frames/s':>11} {'p50 ms':>9} {'p99 ms':>9} {'relay is':>9}   "
    rows = [
        (" " * 13 + "".join(f"{title:-^41}   " for title in titles)).rstrip(),
        (f"{measurements[0].case:13}" + columns * len(rates)).rstrip(),
    ]
    for subject in subjects:
        row = f"{subject:13}"
        for rate in rates:
            delivered = value.get((subject, rate, "deliveries_per_s"))
            if delivered is None:
                row += f"{'-':>11} {'-':>9} {'-':>9} {'':>9}   "
                continue
            ours = value.get((OURS, rate, "deliveries_per_s"))
            ratio = f"{ours / delivered:.1f} x" if ours is not None and delivered else ""
            late = " " if delivered >= KEEPS_UP * rate * clients else "*"
            p50, p99 = (value.get((subject, rate, f"p{q}_ms"), float("nan")) for q in (50, 99))
            row += f"{delivered:>10,.0f}{late} {_digits(p50):>9} {_digits(p99):>9} {ratio:>9}   "
        rows.append(row.rstrip())
    return "\n".join(rows)


def _plain(measurements: list[Measurement]) -> str:
    if not measurements:
        return ""
    head = ("case", "subject", "offered", "clients", "metric", "value", "unit")
    rows = [
        (
            m.case,
            m.subject,
            "" if m.offered is None else f"{m.offered}/s",
            f"{m.clients:,}",
            m.metric,
            _digits(m.value),
            m.unit,
        )
        for m in measurements
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(_line(row, widths) for row in [head, *rows])


def _line(row: Iterable[str], widths: list[int]) -> str:
    numbers = {2, 3, 5}
    cells = enumerate(zip(row, widths, strict=True))
    return "  ".join(c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in cells).rstrip()


def _digits(value: float) -> str:
    """Three significant digits, and all of an integer part: 0.512, 2.31, 48.2, 12,345."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{decimals}f}"
