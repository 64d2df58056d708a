"""Fixtures of whole stories."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.environment import VAR
from tests.support.relay import RunningRelay


@pytest.fixture
def start_relay() -> Iterator[Callable[..., RunningRelay]]:
    """Starts a relay of the test's own, stopped at its end; keywords are its environment."""
    started: list[RunningRelay] = []

    def start(name: str, **environment: str) -> RunningRelay:
        relay = RunningRelay(VAR / name, **environment)
        started.append(relay)
        relay.start()
        return relay

    yield start
    for relay in started:
        relay.stop()
