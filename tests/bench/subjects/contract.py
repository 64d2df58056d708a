"""What a case needs to know of a server it measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.machine import Cores
from tests.bench.processes import Family

#: What the load client sends after the upgrade, and part of the answer that says it is followed.
SUBSCRIBE = '{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}'
ACK = "subscriptionResponse"


class NotHere(Exception):
    """The subject needs something this machine does not have; the text names it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a subject is started on. `family` ends all its processes."""

    family: Family
    redis_port: int
    cores: Cores
    folder: Path  # for what may be kept: compiled and installed programs
    temporary: Path  # gone when the bench ends: databases, node files

    @property
    def redis_url(self) -> str:
        """The private Redis of this run."""
        return f"redis://127.0.0.1:{self.redis_port}"


@dataclass(frozen=True, slots=True)
class Running:
    """A started subject: where it listens, who it lets in, how frames are published to it."""

    port: int
    pid: int  # of the process that holds the connections
    path: str = "/"
    form: str = "plain"  # of `tests.bench.publisher`
    has_acks: bool = False  # answers SUBSCRIBE with ACK
    headers: tuple[str, ...] = field(default=(), repr=False)


class Subject(Protocol):
    """One server."""

    name: str
    #: One line for the legend.
    what: str

    def start(self, stage: Stage) -> Running:
        """Start it. Raises NotHere, or Failed when it does not serve in time."""
