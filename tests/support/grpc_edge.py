"""One real gRPC process (`manage.py run_grpc`) on a real Redis, with a worker's end of the bus in
the test's hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from relay_site.processes import free_port
from streaming.bus import keys
from streaming.bus.log import LogWriter
from streaming.core.envelope import Envelope
from tests.support.edge import DEADLINE_S, ROOT, Edge
from tests.support.services import start_process, wait_until


class GrpcEdge(Edge):
    """Like `Edge`, over gRPC."""

    def __init__(
        self,
        var: Path,
        *,
        redis_url: str,
        drain_s: float = 0.0,
        mute_s: float = 60.0,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            var, redis_url=redis_url, drain_s=drain_s, mute_s=mute_s, variables=variables
        )
        self.grpc_port = free_port()

    def start(self) -> None:
        """Start it; returns when it listens and its bus is connected."""
        saved = dict(os.environ)
        before = {name.decode() for name in self.redis.smembers(keys.EDGES)}
        try:
            os.environ.clear()
            os.environ.update(self._environment)
            command = [sys.executable, str(ROOT / "manage.py"), "run_grpc"]
            command += ["--port", str(self.grpc_port), *self._options]
            self.process = start_process(command, log=self.log)
        finally:
            os.environ.clear()
            os.environ.update(saved)

        def is_up() -> bool:
            edges = {name.decode() for name in self.redis.smembers(keys.EDGES)} - before
            if len(edges) != 1:
                return False
            (self.name,) = edges
            channel = keys.BUS_CHANNEL.format(edge=self.name)
            is_connected = bool(self.redis.pubsub_numsub(channel)[0][1])
            return is_connected and b"gRPC listens" in self.log.read_bytes()

        wait_until(is_up, process=self.process, what="grpc", log=self.log, deadline_s=DEADLINE_S)

    def restart(self) -> None:
        """Kill it, and start it again on the same port."""
        self.process.kill()
        self.process.wait()
        self.redis.srem(keys.EDGES, self.name)
        self.log.write_bytes(b"")
        self.start()

    @property
    def target(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """With the demo's key."""
        return (("x-api-key", self.api_key),)

    def channel(self, **options: Any) -> grpc.Channel:
        """A client's channel."""
        return grpc.insecure_channel(self.target, options=list(options.items()))

    def health(self, channel: grpc.Channel) -> str:
        """What the health check says."""
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def tell(self, *envelopes: Envelope) -> None:
        """As a worker: into the log, then onto the bus."""
        for command in LogWriter().append(list(envelopes)):
            self.redis.execute_command(*command)
        self.publish(*envelopes)
