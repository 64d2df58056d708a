"""Stretches of a topic of which it was said that what was told there is not all."""

from __future__ import annotations

from streaming.core.envelope import Position

#: So many are remembered: two workers say the same within seconds, and it is rare.
MAX_STRETCHES = 8


class Stretches:
    """The last few, as (after, until]."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[tuple[Position, Position], ...] = ()

    def add(self, after: Position, until: Position) -> bool:
        """Note one; False when it says nothing new. It is named from the block on that was short,
        up to where whoever found it out had got: two workers name one block up to where each is."""
        is_news = not self.has(after)
        if is_news:
            self._known = (*self._known[1 - MAX_STRETCHES :], (after, until))
        else:
            self._known = tuple(
                (begin, max(end, until) if begin <= after < end else end)
                for begin, end in self._known
            )
        return is_news

    def has(self, after: Position, until: Position | None = None) -> bool:
        """Whether what comes right behind `after`, or all up to `until`, lies in one of them."""
        return any(
            begin <= after < end and (until is None or until <= end) for begin, end in self._known
        )
