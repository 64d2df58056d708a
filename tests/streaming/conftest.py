"""Fixtures of the data plane."""

from collections.abc import Iterator

import pytest

from tests.support.edge import Edge
from tests.support.environment import VAR


@pytest.fixture(scope="session")
def edge(redis_url: str) -> Iterator[Edge]:
    """A real edge process; shared, so every test uses topics of its own."""
    edge = Edge(VAR / "edge", redis_url=redis_url.removesuffix("/0") + "/5")
    edge.start()
    yield edge
    edge.stop()
