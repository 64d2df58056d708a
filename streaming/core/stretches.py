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

    def add(self, after: Position, until: Position, *, reached: Position) -> bool:
        """Note one; False when it says nothing new. `reached` is up to where things were told.

        It is named from the block on that was short, up to where whoever found it out had got: two
        workers name one block up to where each is. Another block in it is another stretch. What the
        second names beyond counts as told only within the block that was reached: of those after it
        nobody was told anything yet.
        """
        for n, (begin, end) in enumerate(self._known):
            if begin == after:
                if until.height <= reached.height:
                    longer = (begin, max(end, until))
                    self._known = (*self._known[:n], longer, *self._known[n + 1 :])
                return False
        self._known = (*self._known[1 - MAX_STRETCHES :], (after, until))
        return True

    def has(self, after: Position, until: Position | None = None) -> bool:
        """Whether what comes right behind `after`, or all up to `until`, lies in one of them."""
        return any(
            begin <= after < end and (until is None or until <= end) for begin, end in self._known
        )
