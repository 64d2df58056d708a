"""Counts of `/exchange`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

OUTCOMES = Counter(
    "relay_exchange_requests_total", "Actions, by what is known of them.", ["outcome"]
)
STOPPED = Counter("relay_exchange_stopped_total", "Actions that a guard rail stopped.")
UPSTREAM_SECONDS = Histogram(
    "relay_exchange_upstream_seconds",
    "From the first byte to the exchange to its whole answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
