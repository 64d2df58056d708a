"""The exchange's public WebSocket: subscriptions on demand, frames passed through byte for byte.

Nothing is forwarded that could make the exchange drop the connection: coins are checked against the
catalogue first. What the exchange allows one address is kept by the budget: a topic without a place
is told which limit is spent, and gets the next place that is given back.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Collection, Iterable
from typing import Any

import structlog

from streaming.core.catalogue import Catalogue
from streaming.core.envelope import ORIGIN, Envelope, Role
from streaming.core.public import PublicFeed
from streaming.core.schema_sentinel import SchemaSentinel
from streaming.core.topic import Topic
from streaming.core.without_secrets import without_secrets
from streaming.upstream import metrics
from streaming.upstream.budget import PublicBudget
from streaming.upstream.rate import ByteRate
from streaming.upstream.schema_watch import Tell, log_finding
from streaming.upstream.sources.base import Publish
from streaming.upstream.sources.info import InfoFailed, pause_s, read_catalogue
from streaming.upstream.sources.public_link import PublicLink
from streaming.upstream.spec import UpstreamSpec

log = structlog.get_logger(__name__)

CATALOGUE_EVERY_S = 60.0
RETRY_S = 2.0
#: Topics without a place that are tried again when one is given back, oldest first.
RETRIED = 100

TAKEN = "Another tenant, who held fewer public feeds, has this place now"
QUARANTINED = "quarantined"  # the mark
UNSERVED = "The exchange has not acknowledged this subscription; it is asked again"


class PublicSource:
    """Implements `Source` on the exchange's WebSocket. `budget` is what this address may ask; other
    sources may share it, each under its own name."""

    def __init__(
        self,
        spec: UpstreamSpec,
        *,
        name: str,
        budget: PublicBudget | None = None,
        tell: Tell = log_finding,
    ) -> None:
        self._tell = tell
        self.name = name
        self.url = spec.address
        self._spec = spec
        self._budget = budget or PublicBudget()
        self._sentinel = SchemaSentinel()
        self._links: dict[int, PublicLink] = {}
        self._link_of: dict[Topic, PublicLink] = {}
        self._waiting: dict[Topic, frozenset[str]] = {}  # without a place: whose it would be
        self._refusals: dict[Topic, str] = {}
        self._tenants: dict[Topic, frozenset[str]] = {}  # of those with a place
        # Places are free once the exchange was told so: topics that it still carries, and those
        # that have a place but must not be asked for before certain others are gone.
        self._leaving: set[Topic] = set()
        self._gates: dict[Topic, set[Topic]] = {}
        self._down: dict[str, str] = {}  # topics (names) that were told to have no source, and why
        self._catalogue = Catalogue()
        self._publish: Publish = lambda envelopes: None
        self._group: asyncio.TaskGroup | None = None
        self._frames = 0
        self._rate = ByteRate()
        self._faults: dict[str, int] = {}
        self._findings: dict[str, int] = {}

    @property
    def catalogue(self) -> Catalogue:
        """The exchange's own list."""
        return self._catalogue

    def serves(self, topic: Topic) -> bool:
        """Whether the exchange knows the coin and the feed exists there (no `l4Book`, 20 levels at
        most)."""
        return PublicFeed.can_serve(topic) and self._is_good and self._catalogue.knows(topic)

    @property
    def _is_good(self) -> bool:
        """Whether it may be asked for anything: its names are known, and what it says is usable."""
        return bool(self._catalogue) and not self._is_quarantined

    @property
    def _is_quarantined(self) -> bool:
        return any(link.is_quarantined for link in self._links.values())

    def want(self, topic: Topic, tenants: Collection[str] = ()) -> bool:
        """Subscribe upstream, once however often it is called. `tenants` are those who want it
        now. A topic for which there is no room waits, and `snapshot` says why; False only while the
        source does not run.
        """
        if self._group is None:
            return False
        owners = frozenset(tenants)
        known = self._tenants if topic in self._link_of else self._waiting
        if known.get(topic) != owners:
            self._place(topic, owners)
        return True

    def unwant(self, topic: Topic) -> None:
        """Unsubscribe upstream; when that is done, who waited for a place is tried again."""
        self._waiting.pop(topic, None)
        self._refusals.pop(topic, None)
        if topic in self._link_of:
            self._remove(topic)
            self._free(topic)

    def snapshot(self, topic: Topic) -> Envelope | None:
        """The topic's last frames, why there are none now, or None before the first frame."""
        if topic in self._waiting:
            return _not_ready(topic, self._refusals[topic])
        link = self._link_of.get(topic)
        if link is None:
            return None
        why = self._down.get(topic.name) or link.down
        return link.feed.snapshot(topic) if why is None else _not_ready(topic, why)

    def state(self) -> dict[str, Any]:
        """Live figures for the heartbeat."""
        links = self._links.values()
        heard = max((link.heard_at_s for link in links), default=0.0)
        is_quarantined = self._is_quarantined
        metrics.MARKED.labels(self.name, QUARANTINED).set(is_quarantined)
        return {
            "kind": "public",
            "address": without_secrets(self.url),
            "info_url": without_secrets(self._spec.info_url or "") or None,
            "bytes_per_s": self._rate.per_s(),
            "height": None,
            "silent_s": round(time.monotonic() - heard, 3) if heard else None,
            "books_ready": self._is_good,
            "marks": [QUARANTINED] if is_quarantined else [],
            "connections": sum(link.is_up for link in links),
            "subscriptions": len(self._link_of),
            "users": self._budget.users,
            "waiting": len(self._waiting),
            "frames": self._frames,
            "coins": len(self._catalogue.coins),
            "faults": dict(self._faults),
            "schema_findings": dict(self._findings),
        }

    async def run(self, publish: Publish) -> None:
        """Serve what is wanted until cancelled."""
        self._publish = publish
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._budget.seekers[self.name] = self._seek
                group.create_task(self._follow_catalogue())
                for link in self._links.values():  # of a run that failed
                    group.create_task(link.run())
        finally:
            self._group = None  # nothing can be begun in it any more
            self._budget.seekers.pop(self.name, None)

    # --- places -----------------------------------------------------------------------------------

    def _place(self, topic: Topic, tenants: frozenset[str]) -> None:
        grant = self._budget.take(topic, tenants=tenants, holder=self.name)
        if grant.link is None:
            if topic not in self._refusals:
                metrics.PUBLIC_REFUSED.labels(self.name).inc()
            self._waiting[topic], self._refusals[topic] = tenants, grant.refusal
            return
        self._waiting.pop(topic, None)
        self._refusals.pop(topic, None)
        self._tenants[topic] = tenants
        if topic in self._link_of:
            return
        link = self._link_of[topic] = self._links.get(grant.link) or self._open(grant.link)
        gate = {each for evicted in grant.evicted for each in self._before(evicted)}
        if gate:
            self._gates[topic] = gate  # who leaves last lets it in
        elif topic not in self._gates:
            link.add(topic)
        for evicted in grant.evicted:
            if evicted in self._link_of:
                self._waiting[evicted] = self._tenants[evicted]
                self._refusals[evicted] = TAKEN
                self._remove(evicted)
                self._publish([_not_ready(evicted, TAKEN)])

    def _before(self, evicted: Topic) -> set[Topic]:
        """What must be gone from the exchange before the place that `evicted` had is free."""
        gate = self._gates.pop(evicted, set())  # it was not asked for yet
        link = self._link_of.get(evicted)
        is_carried = link is not None and evicted in link.topics
        return gate | {evicted} if is_carried or evicted in self._leaving else gate

    def _remove(self, topic: Topic) -> None:
        link = self._link_of.pop(topic)
        self._down.pop(topic.name, None)
        del self._tenants[topic]
        if topic in link.topics:
            self._leaving.add(topic)
            link.remove(topic)

    def _left(self, topic: Topic) -> None:
        """The exchange carries the topic no more."""
        self._leaving.discard(topic)
        for gate in self._gates.values():
            gate.discard(topic)
        for waiting in [each for each, gate in self._gates.items() if not gate]:
            self._gates.pop(waiting, None)
            if waiting in self._link_of:
                self._link_of[waiting].add(waiting)
            else:
                self._free(waiting)
        self._free(topic)

    def _free(self, topic: Topic) -> None:
        """Give back a place that nothing is subscribed on, and try who waits for one."""
        if topic in self._link_of or topic in self._leaving or topic in self._gates:
            return
        self._budget.give(topic, holder=self.name)
        self._seek()
        self._budget.tell_room(of=self.name)

    def _seek(self) -> None:
        """Try who waits for a place."""
        for waiting in list(itertools.islice(self._waiting, RETRIED)):
            if waiting in self._waiting:
                self._place(waiting, self._waiting.pop(waiting))

    def _open(self, number: int) -> PublicLink:
        link = self._links[number] = PublicLink(
            self.url,
            name=f"{self.name}:{number}",
            feed=PublicFeed(f"p-{uuid.uuid4().hex[:12]}", sentinel=self._sentinel),
            budget=self._budget,
            on_frame=self._take,
            publish=lambda envelopes: self._publish(envelopes),
            on_left=self._left,
            on_unserved=lambda topic: self._end([topic], UNSERVED),
            on_down=lambda link, why: self._end(link.topics, why),
            on_up=self._revive,
        )
        if self._group is not None:
            self._group.create_task(link.run())
        return link

    # --- frames -----------------------------------------------------------------------------------

    def _take(self, link: PublicLink, data: bytes) -> int:
        """Publish what a frame makes. Returns how much in it cannot be used."""
        self._frames += 1
        self._rate.add(len(data))
        envelopes = link.feed.take(data, read_ns=time.time_ns())
        if self._down:
            for envelope in envelopes:
                self._down.pop(envelope.topic, None)
            if link.feed.acknowledged is not None:
                envelopes += self._acknowledged(link, link.feed.acknowledged)
        if envelopes:
            self._publish(envelopes)
        for finding in self._sentinel.drain():
            change = finding.change.value
            self._findings[change] = self._findings.get(change, 0) + 1
            self._tell(self.name, finding)
        notice = link.feed.notice
        if notice is not None and notice.channel == "error":
            self._fault("refused_upstream", 1, data)
        faults = link.feed.faults
        for reason, count in faults.items():
            self._fault(reason, count, data)
        unusable = faults.total()
        faults.clear()
        return unusable

    # --- without a source -------------------------------------------------------------------------

    def _end(self, topics: Iterable[Topic], why: str) -> None:
        """Nobody serves these now; what was known of them is no longer true."""
        topics = list(topics)
        self._down.update((topic.name, why) for topic in topics)
        self._publish([_not_ready(topic, why) for topic in topics])

    def _revive(self, link: PublicLink) -> None:
        """A silent connection speaks again, and nothing of it is lost."""
        names = [topic for topic in link.topics if self._down.pop(topic.name, None) is not None]
        self._publish([s for topic in names if (s := link.feed.snapshot(topic)) is not None])

    def _acknowledged(self, link: PublicLink, topic: Topic) -> list[Envelope]:
        """A new connection carries the topic. A state is fresh with its first frame; a quiet topic
        of events may have none for hours."""
        if topic.is_state or self._down.pop(topic.name, None) is None:
            return []
        snapshot = link.feed.snapshot(topic)
        return [] if snapshot is None else [snapshot]

    def _fault(self, reason: str, count: int, data: bytes) -> None:
        if reason not in self._faults:
            sample = data[:200].decode("utf-8", "replace")
            log.warning("upstream_fault", source=self.name, reason=reason, sample=sample)
        metrics.FAULTS.labels(self.name, reason).inc(count)
        self._faults[reason] = self._faults.get(reason, 0) + count

    async def _follow_catalogue(self) -> None:
        url, failures = self._spec.info_url or "", 0
        while True:
            try:
                read = await read_catalogue(url, before=self._catalogue)
                self._catalogue = read.catalogue
                failures = 0 if read.is_whole else failures + 1
            except InfoFailed as failed:
                log.warning("catalogue_failed", source=self.name, reason=str(failed))
                failures += 1
            await asyncio.sleep(
                pause_s(failures, least_s=RETRY_S, most_s=CATALOGUE_EVERY_S)
                if failures
                else CATALOGUE_EVERY_S
            )


def _not_ready(topic: Topic, why: str) -> Envelope:
    return Envelope(topic.name, "", ORIGIN, ORIGIN, Role.NOT_READY, why.encode())
