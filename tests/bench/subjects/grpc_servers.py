"""Who streams over gRPC: ours, and what grpc.aio does when nothing else is done."""

from __future__ import annotations

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from tests.bench.machine import free_port
from tests.bench.processes import Child
from tests.bench.subjects.contract import Running, Stage
from tests.bench.subjects.grpc_hub import SERVICE
from tests.bench.subjects.others import PythonHub
from tests.bench.subjects.relay import Relay

#: What the load client sends: the WebSocket's subscription.
REQUEST = pb.StreamRequest(
    subscribe=pb.Subscribe(id="t", channel="l2Book", coins=["BTC"])
).SerializeToString()


class RelayGrpc(Relay):
    """`manage.py run_grpc`."""

    name = "relay-grpc"
    what = "this relay's gRPC: key check, hub, cursors, metering"

    def start(self, stage: Stage) -> Running:
        """Seed once per run, then serve; clients come in by a key in the metadata."""
        env = self.environment(stage, port=free_port())
        if self._api_key is None:
            self._api_key = self._seed(stage, env)
        return self._serve(stage, env)[0]

    def start_door(self, stage: Stage, door: str) -> tuple[Running, Child]:
        """The edge of one of both doors, `ws` or `grpc`, alone."""
        env = self.environment(stage, port=free_port())
        if self._api_key is None:
            self._api_key = self._seed(stage, env)
        return self._serve(stage, env) if door == "grpc" else self.serve(stage, env)

    def _serve(self, stage: Stage, env: dict[str, str | None]) -> tuple[Running, Child]:
        port = free_port()
        child = self._command(stage, "run_grpc", env | {"RELAY_GRPC_PORT": str(port)})
        child.wait_for_port(port)
        running = Running(
            port=port,
            pid=child.pid,
            path="/hlrelay.v1.Relay/Stream",
            form="relay",
            has_acks=True,
            headers=(f"x-api-key: {self._api_key}",),
        )
        return running, child


class GrpcBare(PythonHub):
    """grpc.aio with one write for each client and message."""

    name = "grpc-bare"
    what = "plain hub on grpc.aio, one response per client and message"
    package = "grpc"
    module = "grpc_hub"
    method = "Each"

    def start(self, stage: Stage) -> Running:
        """Run the module."""
        running = super().start(stage)
        return Running(port=running.port, pid=running.pid, path=f"/{SERVICE}/{self.method}")


class GrpcJoined(GrpcBare):
    """The same, where what waits is one response."""

    name = "grpc-joined"
    what = "the same, what waits for a client in one response"
    method = "Joined"
