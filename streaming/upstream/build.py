"""From the operator's list of upstreams to the sources of one worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streaming.upstream.budget import PublicBudget
from streaming.upstream.links import build_link
from streaming.upstream.schema_watch import SchemaWatch, Tell, log_finding
from streaming.upstream.sources.base import Source
from streaming.upstream.sources.nodes import NODE_FILES, NodeLink, NodesSource
from streaming.upstream.sources.polled import PolledSource
from streaming.upstream.sources.public import PublicSource
from streaming.upstream.spec import NODE_UPSTREAMS, UpstreamKind, UpstreamSpec


class Upstreams:
    """The sources of one worker. `nodes` lives as long as the worker, whatever the list says;
    `build_owned` makes the others, which run in one worker at a time.
    """

    def __init__(
        self, specs: Mapping[str, UpstreamSpec], *, scratch: Path, tell: Tell = log_finding
    ) -> None:
        """`specs` by name; `scratch` must be this process's own; `tell` gets what is new from the
        exchange.
        """
        self._tell, self._schema = tell, SchemaWatch(tell)
        self.specs = dict(specs)
        self._scratch = scratch
        # One address, one allowance: for all public rows, and whatever is edited meanwhile.
        self._budget = PublicBudget()
        self._links = self._linked({})
        self.nodes = NodesSource(
            list(self._links.values()), weights=self._weights(), schema=self._schema
        )

    def use(self, specs: Mapping[str, UpstreamSpec]) -> bool:
        """Read these from now on: what stays as it was goes on undisturbed. Returns whether the
        owned sources must be made anew.
        """
        before, self.specs = self.specs, dict(specs)
        had_nodes = bool(self._links)
        same = {n for n, spec in self.specs.items() if n in before and spec.reads_as(before[n])}
        kept = {name: link for name, link in self._links.items() if name in same}
        if kept.keys() != self._links.keys():
            # Under the same name another address may be meant now: the old one goes first.
            self.nodes.use(list(kept.values()), weights={})
        self._links = self._linked(kept)
        self.nodes.use(list(self._links.values()), weights=self._weights())
        public = _owned(self.specs).keys()
        return (
            had_nodes != bool(self._links) or _owned(before).keys() != public or not public <= same
        )

    def build_owned(self) -> list[Source]:
        """The sources that run in one worker at a time, made anew for each owner, when those before
        have ended: what the nodes' `/info` gives before what the public feeds do.
        """
        self._budget.give_all()
        nodes = self.nodes
        info = self._schema.watched(nodes.info, source="polled")
        polled = PolledSource(info, catalogue=lambda: nodes.catalogue)
        public: list[Source] = [
            PublicSource(spec, name=name, budget=self._budget, tell=self._tell)
            for name, spec in _owned(self.specs).items()
        ]
        return [polled, *public] if self._links else public

    def _linked(self, kept: Mapping[str, NodeLink]) -> dict[str, NodeLink]:
        return {
            name: kept.get(name)
            or build_link(spec, name=name, scratch=self._scratch, kinds=NODE_FILES)
            for name, spec in self._nodes().items()
        }

    def _weights(self) -> dict[str, int]:
        return {name: spec.weight for name, spec in self._nodes().items()}

    def _nodes(self) -> dict[str, UpstreamSpec]:
        return {name: spec for name, spec in self.specs.items() if spec.kind in NODE_UPSTREAMS}


def _owned(specs: Mapping[str, UpstreamSpec]) -> dict[str, UpstreamSpec]:
    return {name: spec for name, spec in specs.items() if spec.kind is UpstreamKind.PUBLIC}
