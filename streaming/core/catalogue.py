"""The names that exist upstream: what a subscription may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.core.topic import Topic


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Coins and builder dexes known upstream. An empty catalogue means: not known yet, refuse
    nothing.

    One unknown coin makes the exchange drop the connection that asked for it, with every other
    subscription on it, so coins are checked before anything is forwarded.
    """

    coins: frozenset[str] = frozenset()
    dexes: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.coins)

    def knows(self, topic: Topic) -> bool:
        """Whether `topic` can be followed. Names are case-sensitive, as upstream."""
        if not self.coins:
            return True
        if topic.dex and topic.dex not in self.dexes:
            return False
        return not topic.coin or topic.coin in self.coins
