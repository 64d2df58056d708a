"""What the gRPC door counts. Labels are bounded: names of methods that are served, and codes."""

from __future__ import annotations

from prometheus_client import Counter

CALLS = Counter("relay_grpc_calls", "Calls by method and outcome.", ["method", "outcome"])
ENDED = Counter("relay_grpc_streams_ended", "Streams that were let in, by status.", ["status"])
