"""What the worker asks of a source of topics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol, runtime_checkable

from streaming.core.catalogue import Catalogue
from streaming.core.envelope import Envelope
from streaming.core.topic import Topic

Publish = Callable[[Iterable[Envelope]], None]


class Source(Protocol):
    """One upstream, read and turned into envelopes of the topics that are wanted."""

    name: str

    @property
    def catalogue(self) -> Catalogue:
        """The names this source serves; empty while unknown."""

    def serves(self, topic: Topic) -> bool:
        """Whether this source can give `topic`."""

    def want(self, topic: Topic, tenants: Collection[str] = ()) -> bool:
        """Begin to publish the topic's updates; idempotent. False when there is no room for it.
        `tenants` are those who want it now: they share what is scarce."""

    def unwant(self, topic: Topic) -> None:
        """Stop."""

    def snapshot(self, topic: Topic) -> Envelope | None:
        """The topic's state now (or that it is not ready), or None: its next update will stand in
        for it."""

    def state(self) -> dict[str, Any]:
        """Live figures for the heartbeat: plain JSON values, no secrets."""

    async def run(self, publish: Publish) -> None:
        """Read until cancelled."""


@runtime_checkable
class ManyUpstreams(Protocol):
    """A source made of several upstreams, each with figures of its own."""

    def states(self) -> dict[str, dict[str, Any]]:
        """Each upstream's live figures, by its name."""


def states_of(source: Source) -> dict[str, dict[str, Any]]:
    """The live figures of everything `source` reads, by name."""
    return source.states() if isinstance(source, ManyUpstreams) else {source.name: source.state()}
