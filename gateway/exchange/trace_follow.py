"""What became of traced orders, by the relay's own feeds: in which block they were, and filled.

Nothing is asked upstream for an order. While a user has orders that wait, this process follows that
user's `orderUpdates` and `userFills` in its own hub, as a socket of theirs would; the frames are
of a node's files, with block times and heights. When nobody trades, nothing is followed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.exchange import trace as traces
from gateway.exchange.sharing import giver
from gateway.exchange.trace import Trace
from gateway.exchange.trace_feeds import Feeds, News
from gateway.exchange.trace_questions import Ask, Questions
from streaming.core.catalogue import Catalogue
from streaming.core.hub import Hub

#: Users followed at one time, of a tenant and of all; orders that wait. When all are taken, whose
#: tenant has the most gives one to whose has fewer.
MAX_USERS, MAX_ALL_USERS = 20, 500
MAX_OPEN, MAX_ALL_OPEN = 2_000, 20_000
#: A user without orders that wait is followed so long, for the next.
LINGER_MS = 60_000
#: An order may rest for as long as it is traced; of everything else the block comes at once.
RESTS_MS, COMES_MS = 24 * 3_600_000, 30_000
#: After an order's end its fills may still come, from another file.
AFTER_END_MS = 3_000
#: What was not seen by then is asked for once: the first order of a user is in its block before
#: anybody follows. So often for a tenant, at most.
ASK_AFTER_MS, ASK_EVERY_MS = 3_000, 2_000


@dataclass(slots=True, eq=False)
class Open:
    """A trace that waits. `ends_ms` is when that is over."""

    trace: Trace
    tenant_id: int
    slug: str
    signer: str
    ends_ms: float
    is_asked: bool = False
    followed: _User | None = None  # where it counts as open
    tids: set[int] = field(default_factory=set)
    keys: list[tuple[str, int | str]] = field(default_factory=list)
    news: list[News] = field(default_factory=list)  # the last of it


@dataclass(slots=True)
class _User:
    """One that is followed."""

    until_ms: float
    open: int = 0


class Follower:
    """One per process, in its loop. `changed` is told of a trace that knows more, `has_node`
    whether any worker reads a node: of the public feed's few places none is taken."""

    def __init__(
        self,
        hub: Hub,
        *,
        catalogue: Callable[[], Catalogue],
        changed: Callable[[int, Trace], None],
        ask: Ask,
        has_node: Callable[[], bool],
        now_ms: Callable[[], float] = lambda: time.time() * 1e3,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = changed
        self._has_node = has_node
        self._now_ms = now_ms
        self._feeds = Feeds(
            hub, catalogue=catalogue, told=self._told, now_ms=now_ms, monotonic=monotonic
        )
        self._users: defaultdict[int, dict[str, _User]] = defaultdict(dict)
        #: By user and id of the exchange, or the customer's own.
        self._open: defaultdict[tuple[str, int | str], list[Open]] = defaultdict(list)
        self._waiting: dict[Open, None] = {}
        #: The same by tenant, oldest first.
        self._held: defaultdict[int, dict[Open, None]] = defaultdict(dict)
        self._asked_ms: dict[int, float] = {}
        self._questions = Questions(ask, now_ms=now_ms)

    def user_of(self, signer: str) -> str:
        """Whose agent a signer is, or the signer, as far as that is known."""
        return self._questions.master_of(signer)

    def expect(self, tenant_id: int, user: str) -> None:
        """An order of this user is on its way: follow them, if there is room."""
        if not user or not self._has_node():
            return
        mine = self._users.get(tenant_id, {})
        known = mine.get(user)
        until_ms = self._now_ms() + LINGER_MS
        if known is not None:
            known.until_ms = until_ms
            return
        if len(mine) >= MAX_USERS or not self._has_room_to_follow(tenant_id):
            return
        self._users[tenant_id][user] = _User(until_ms)
        self._feeds.follow(tenant_id, user)

    def wait_for(
        self, trace: Trace, *, tenant_id: int, slug: str, signer: str, may_rest: bool
    ) -> None:
        """See what becomes of a trace, and say so in its state."""
        is_known = trace.oid is not None or trace.cloid
        if not (trace.user and is_known):
            return
        is_followed = trace.user in self._users.get(tenant_id, {})
        is_wanted = is_followed or trace.outcome == traces.UNKNOWN
        if not is_wanted or not self._has_room_to_wait(tenant_id):
            trace.state = traces.UNFOLLOWED
            return
        trace.state = traces.WAITS
        now_ms = self._now_ms()
        ends_ms = now_ms + (RESTS_MS if may_rest else COMES_MS)
        one = Open(trace, tenant_id, slug, signer, ends_ms)
        self._waiting[one] = None
        self._held[tenant_id][one] = None
        self._enter(one)
        if signer and signer == trace.user:
            self._questions.learn_role(signer, slug, self._move)

    def _has_room_to_follow(self, tenant_id: int) -> bool:
        if sum(map(len, self._users.values())) < MAX_ALL_USERS:
            return True
        if (other := giver(self._users, tenant_id)) is None:
            return False
        theirs = self._users[other]
        # One whose orders are all over, else whose last order is the oldest.
        user = min(theirs, key=lambda each: (theirs[each].open > 0, theirs[each].until_ms))
        for one in [one for one in self._held.get(other, ()) if one.followed is theirs[user]]:
            self._end(one, traces.UNFOLLOWED)
        self._unfollow(other, user)
        return True

    def _has_room_to_wait(self, tenant_id: int) -> bool:
        if len(self._held.get(tenant_id, ())) >= MAX_OPEN:
            return False
        if len(self._waiting) < MAX_ALL_OPEN:
            return True
        if (other := giver(self._held, tenant_id)) is None:
            return False
        self._end(next(iter(self._held[other])), traces.UNFOLLOWED)
        return True

    # --- what comes -------------------------------------------------------------------------------

    def _told(self, user: str, key: int | str, news: News) -> None:
        for one in tuple(self._open.get((user, key), ())):
            self._learn(one, news)

    def _learn(self, one: Open, news: News) -> None:
        if any(known is news for known in one.news):
            return  # by its other name
        one.news = [*one.news[-3:], news]
        if news.is_fill:
            self._filled(one, news)
        else:
            self._updated(one, news)

    def _updated(self, one: Open, news: News) -> None:
        trace, update = one.trace, news.item
        order, status, at_ms = update["order"], update["status"], update["statusTimestamp"]
        is_end = status not in traces.ALIVE
        if trace.is_cancel and not is_end:
            return  # it was placed, or filled in part; its end is what is waited for
        if trace.block_ms is None:
            is_of_this = trace.is_cancel or trace.kind != "order" or order["timestamp"] == at_ms
            trace.block_ms = at_ms if is_of_this else order["timestamp"]
            trace.height = news.height if is_of_this else None
            trace.seen_ms = news.at_ms
        is_other = order["oid"] != trace.oid and not trace.is_cancel
        if is_other and (trace.oid is None or not is_end):
            trace.oid = order["oid"]  # found by its cloid, or modified
            self._list(one, (trace.user, order["oid"]))
        trace.coin = trace.coin or str(order["coin"])[:48]
        trace.last_status, trace.last_ms = str(status)[:40], at_ms
        trace.state = traces.SEEN
        if is_end and (trace.is_cancel or order["oid"] == trace.oid):
            one.ends_ms = min(one.ends_ms, self._now_ms() + AFTER_END_MS)
        self._changed(one.tenant_id, trace)

    def _filled(self, one: Open, news: News) -> None:
        trace, fill = one.trace, news.item
        if trace.is_cancel or fill["tid"] in one.tids:
            return
        if len(one.tids) < 1_000:
            one.tids.add(fill["tid"])
        trace.fills += 1
        trace.coin = trace.coin or str(fill["coin"])[:48]
        if trace.fill_ms is None or fill["time"] < trace.fill_ms:
            trace.fill_ms, trace.fill_height = fill["time"], news.height
        if trace.block_ms is None and trace.status == "filled":
            trace.block_ms, trace.height, trace.seen_ms = fill["time"], news.height, news.at_ms
        trace.state = traces.SEEN
        self._changed(one.tenant_id, trace)

    # --- in and out -------------------------------------------------------------------------------

    def _enter(self, one: Open) -> None:
        trace = one.trace
        one.followed = self._users.get(one.tenant_id, {}).get(trace.user)
        if one.followed is not None:
            one.followed.open += 1
        for key in [key for key in (trace.oid, trace.cloid) if key]:
            if (trace.user, key) not in one.keys:
                self._list(one, (trace.user, key))

    def _list(self, one: Open, key: tuple[str, int | str]) -> None:
        one.keys.append(key)
        self._open[key].append(one)
        for news in self._feeds.recent(*key):
            self._learn(one, news)

    def _leave(self, one: Open) -> None:
        for key in one.keys:
            self._open[key].remove(one)
            if not self._open[key]:
                del self._open[key]
        one.keys.clear()
        if one.followed is not None:
            one.followed.open -= 1
            one.followed = None

    def sweep(self) -> None:
        """Let go of what is over, and ask once for what should have been seen. Call it each second
        or so."""
        now_ms = self._now_ms()
        for one in [one for one in self._waiting if now_ms >= one.ends_ms]:
            self._end(one)
        self._feeds.forget(now_ms)
        for one in self._unseen(now_ms):
            one.is_asked = True
            self._asked_ms[one.tenant_id] = now_ms
            self._questions.look_up(one, self._looked_up)
        for tenant_id, theirs in list(self._users.items()):
            for user, followed in list(theirs.items()):
                if not followed.open and now_ms >= followed.until_ms:
                    self._unfollow(tenant_id, user)

    def _end(self, one: Open, state: str = traces.NEVER) -> None:
        self._leave(one)
        del self._waiting[one]
        del self._held[one.tenant_id][one]
        if not self._held[one.tenant_id]:
            del self._held[one.tenant_id]
            self._asked_ms.pop(one.tenant_id, None)
        if one.trace.state == traces.WAITS or one.trace.lacks_fill:
            one.trace.state = state
            self._changed(one.tenant_id, one.trace)

    def _unseen(self, now_ms: float) -> Iterator[Open]:
        told: set[int] = set()
        for one in self._waiting:
            if now_ms - one.trace.received_ms < ASK_AFTER_MS:
                break  # they are in the order they came
            if one.is_asked or one.trace.block_ms is not None or one.trace.is_cancel:
                continue
            last_ms = self._asked_ms.get(one.tenant_id, float("-inf"))
            if one.tenant_id not in told and now_ms - last_ms >= ASK_EVERY_MS:
                told.add(one.tenant_id)
                yield one

    def _unfollow(self, tenant_id: int, user: str) -> None:
        del self._users[tenant_id][user]
        if not self._users[tenant_id]:
            del self._users[tenant_id]
        self._feeds.unfollow(tenant_id, user)

    # --- what has to be asked ---------------------------------------------------------------------

    def _looked_up(self, one: Open, told: Mapping[str, Any]) -> None:
        """`orderStatus` of an order that was not seen."""
        trace, order, status = one.trace, told["order"], str(told["status"])
        if trace.block_ms is None:
            trace.block_ms = int(order["timestamp"])
        trace.oid = trace.oid or order.get("oid")
        trace.coin = trace.coin or str(order.get("coin", ""))[:48]
        if not trace.last_status:
            trace.last_status, trace.last_ms = status[:40], int(told["statusTimestamp"])
        if status not in traces.ALIVE:
            one.ends_ms = min(one.ends_ms, self._now_ms() + AFTER_END_MS)
        trace.state = traces.SEEN
        self._changed(one.tenant_id, trace)

    def _move(self, signer: str, master: str) -> None:
        """An agent's orders are its master's, and so are their feeds."""
        for one in [one for one in self._waiting if one.signer == signer]:
            # One of these may give its place to another meanwhile.
            if one.trace.user == signer and one in self._waiting:
                self._leave(one)
                one.trace.user = master
                self.expect(one.tenant_id, master)
                self._enter(one)
                self._changed(one.tenant_id, one.trace)

    async def aclose(self) -> None:
        """Follow nothing any more."""
        self._questions.close()
        self._feeds.close()
        self._users.clear()
