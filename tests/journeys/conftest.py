"""Fixtures of whole stories."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.environment import VAR
from tests.support.migrated import copy_migrated
from tests.support.relay import RunningRelay
from tests.support.rig import Rig, Topology, clean


@pytest.fixture
def start_relay() -> Iterator[Callable[..., RunningRelay]]:
    """Starts a relay of the test's own, stopped at its end; keywords are its environment. Its
    database is migrated: that `up` does it for a new folder is shown elsewhere."""
    started: list[RunningRelay] = []

    def start(name: str, **environment: str) -> RunningRelay:
        relay = RunningRelay(VAR / name, **environment)
        relay.var.mkdir(mode=0o700)
        copy_migrated(relay.var / "relay.sqlite3")
        started.append(relay)
        relay.start()
        return relay

    yield start
    for relay in started:
        relay.stop()


@pytest.fixture(scope="package")
def whole_rig() -> Iterator[Rig]:
    """Two nodes, gateways, workers and edges, each a process that may be killed."""
    with Rig(clean(VAR / "rig"), Topology(edges=2)) as rig:
        yield rig


@pytest.fixture
def rig(whole_rig: Rig) -> Iterator[Rig]:
    """The same, with everything well, and no customers from an earlier test."""
    whole_rig.make_whole()
    yield whole_rig
    whole_rig.leave(*whole_rig.probes.all)
