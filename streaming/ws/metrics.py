"""What the customers' sockets count. Labels are bounded: codes and kinds, never a tenant, a key or
a coin."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming import runtime

HANDSHAKES = Counter("relay_ws_handshakes", "Handshakes by outcome.", ["outcome"])
CLOSED = Counter("relay_ws_closed", "Connections that ended, by close code.", ["code"])


class HubCollector(Collector):
    """Reads the hub's own counters when somebody scrapes, so that the hot path keeps plain
    integers."""

    def __init__(self, current: runtime.Runtime) -> None:
        self._runtime = current

    def describe(self) -> list[Metric]:
        """Nothing in advance: else the registry collects while the runtime is being built."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The hub's and the connections' numbers."""
        hub, counters = self._runtime.hub, self._runtime.hub.counters
        yield GaugeMetricFamily(
            "relay_ws_connections",
            "Open customer connections.",
            value=len(self._runtime.connections),
        )
        yield GaugeMetricFamily(
            "relay_hub_topics", "Topics followed by this process.", value=len(hub.feeds)
        )
        yield CounterMetricFamily(
            "relay_hub_envelopes", "Envelopes taken.", value=counters.envelopes
        )
        yield CounterMetricFamily(
            "relay_hub_deliveries", "Frames queued for customers.", value=counters.deliveries
        )
        yield CounterMetricFamily(
            "relay_hub_late", "Envelopes that came twice or late.", value=counters.late
        )
        yield CounterMetricFamily(
            "relay_hub_disagreements",
            "Other versions of a block of which one was delivered, left out.",
            value=counters.disagreements,
        )
        yield CounterMetricFamily(
            "relay_hub_resets",
            "Topics begun again because their book was corrected.",
            value=counters.resets,
        )
        yield CounterMetricFamily(
            "relay_hub_epochs", "Times continuity was lost.", value=counters.epochs
        )
        yield CounterMetricFamily(
            "relay_hub_sink_failures", "Customers whose write failed.", value=counters.sink_failures
        )
        yield CounterMetricFamily(
            "relay_hub_holes_filled",
            "Suspected holes that were filled, or were none.",
            value=counters.filled,
        )
        yield CounterMetricFamily(
            "relay_hub_resumes", "Topics resumed from the replay log.", value=counters.resumes
        )
        yield CounterMetricFamily(
            "relay_hub_resumes_failed",
            "Topics that could not be resumed.",
            value=counters.resumes_failed,
        )
        holes = CounterMetricFamily(
            "relay_hub_holes", "Envelopes missing before one that came.", labels=["kind"]
        )
        for kind, count in counters.holes.items():
            holes.add_metric([kind], count)
        yield holes
