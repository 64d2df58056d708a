"""What the simulator counts, in a registry of its own: it must not mix with the relay's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from streaming.simulator.engine.block import Block, Stream


class Metrics:
    """Prometheus metrics of one simulator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.height = Gauge(
            "simulator_height", "Height of the newest block.", registry=self.registry
        )
        self.blocks = Counter("simulator_blocks", "Blocks made.", registry=self.registry)
        self.events = Counter(
            "simulator_events", "Events by node stream.", ["stream"], registry=self.registry
        )
        self.step_s = Counter(
            "simulator_step_seconds", "Time spent making blocks.", registry=self.registry
        )
        self.behind_s = Gauge(
            "simulator_behind_seconds", "How late the last block was.", registry=self.registry
        )
        self.frames = Counter(
            "simulator_frames", "Frames queued for clients.", registry=self.registry
        )
        self.connections = Gauge(
            "simulator_connections", "Open WebSocket connections.", registry=self.registry
        )
        self.replayed = Counter(
            "simulator_replayed", "Recorded items served.", registry=self.registry
        )

    def count(self, block: Block, *, step_s: float) -> None:
        """Take one block into account."""
        self.height.set(block.height)
        self.blocks.inc()
        self.step_s.inc(step_s)
        for stream in Stream:
            self.events.labels(stream.value).inc(len(block.events(stream)))
