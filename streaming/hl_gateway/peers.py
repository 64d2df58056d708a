"""How many calls each host has open: one that never reads must not take others' places. Pure."""

from __future__ import annotations

from collections import Counter


class PeerCalls:
    """At most `limit` open calls of one host, over all its connections."""

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, peer: str) -> bool:
        """Count a call of `peer`, unless its host has as many as it may: then False."""
        host = host_of(peer)
        if self._open[host] >= self.limit:
            return False
        self._open[host] += 1
        return True

    def leave(self, peer: str) -> None:
        """A call that was counted has ended."""
        host = host_of(peer)
        self._open[host] -= 1
        if not self._open[host]:
            del self._open[host]


def host_of(peer: str) -> str:
    """The host of a peer as gRPC names it: `ipv4:10.0.0.7:51234`, `ipv6:%5B::1%5D:51234`."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer
