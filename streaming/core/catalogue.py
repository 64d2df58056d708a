"""The names that exist upstream: what a subscription may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.core.topic import Topic

NAMES_KEPT_S = 120.0


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

    def __or__(self, other: Catalogue) -> Catalogue:
        """The names of both."""
        if other.coins <= self.coins and other.dexes <= self.dexes:
            return self
        return Catalogue(self.coins | other.coins, self.dexes | other.dexes)


class Names:
    """What several sources know, each by its name. One that knows nothing now (it is built anew, or
    runs elsewhere) is believed for `NAMES_KEPT_S` more: a name that goes missing for a second costs
    those who subscribe in it an "Invalid subscription"."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Catalogue, float]] = {}

    def note(self, source: str, catalogue: Catalogue, *, now_s: float) -> None:
        """Take what a source knows now."""
        if catalogue:
            self._known[source] = catalogue, now_s

    def all(self, *, now_s: float) -> Catalogue:
        """The names of all sources together."""
        together = Catalogue()
        for source, (catalogue, at_s) in list(self._known.items()):
            if now_s - at_s > NAMES_KEPT_S:
                del self._known[source]
            else:
                together |= catalogue
        return together
