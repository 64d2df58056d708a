"""Figures as the chart component of the admin's theme wants them: JSON for its own Chart.js."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

#: Of the lines and bars of one chart, in turn; each is read on light and on dark.
COLORS = ("#7c3aed", "#0d9488", "#d97706", "#2563eb", "#db2777", "#65a30d", "#64748b")

#: What an axis counts in, where its highest value is five of it or more.
_STEPS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
MAX_LABELS = 12


def bars(labels: Sequence[str], name: str, values: Sequence[float]) -> str:
    """One value for each label."""
    return stacked(labels, {name: values})


def stacked(labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Several values for each label, by name."""
    highest = max((sum(column) for column in zip(*series.values(), strict=True)), default=0)
    size, unit = next((step for step in _STEPS if highest >= 5 * step[0]), (1, ""))
    return json.dumps(
        {
            "labels": list(labels),
            "datasets": [
                {
                    "label": f"{name}, {unit}" if unit else name,
                    "data": [value / size for value in values] if size > 1 else list(values),
                    "backgroundColor": COLORS[number % len(COLORS)],
                    "stack": "all",
                    "maxBarThickness": 28,
                    "borderRadius": 2,
                    # What the theme asks of the data: an axis, its unit, no more labels than fit.
                    "displayYAxis": True,
                    "suffixYAxis": unit,
                    "maxTicksXLimit": MAX_LABELS,
                }
                for number, (name, values) in enumerate(series.items())
            ],
        }
    )


def months(now: datetime, count: int) -> list[tuple[datetime, datetime]]:
    """The last `count` calendar months as `(start, end)`, the running one last."""
    start = datetime(now.year, now.month, 1, tzinfo=UTC)
    found: list[tuple[datetime, datetime]] = []
    for _ in range(count):
        found.append((start, (start + timedelta(days=31)).replace(day=1)))
        start = (start - timedelta(days=1)).replace(day=1)
    return found[::-1]
