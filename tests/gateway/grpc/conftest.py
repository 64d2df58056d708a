"""Fixtures of the gRPC door."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.support.environment import VAR
from tests.support.grpc_edge import GrpcEdge

#: Node files are the same topics for all tests, and their heights only rise.
_heights = itertools.count(10_000, 1_000)


@pytest.fixture
def height() -> int:
    """The first of a test's own."""
    return next(_heights)


@pytest.fixture(scope="session")
def edge(redis_url: str) -> Iterator[GrpcEdge]:
    """A real process; shared, so every test uses topics of its own."""
    edge = GrpcEdge(VAR / "grpc-edge", redis_url=redis_url.removesuffix("/0") + "/7")
    edge.start()
    yield edge
    edge.stop()
