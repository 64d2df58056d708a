"""Fixtures of the gRPC door."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.environment import VAR
from tests.support.grpc_edge import GrpcEdge


@pytest.fixture(scope="session")
def edge(redis_url: str) -> Iterator[GrpcEdge]:
    """A real process; shared, so every test uses topics of its own."""
    edge = GrpcEdge(VAR / "grpc-edge", redis_url=redis_url.removesuffix("/0") + "/7")
    edge.start()
    yield edge
    edge.stop()
