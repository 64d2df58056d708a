"""A block that two nodes count differently, as the replay log has it: both versions' frames, at
places of their own. One is told, whole; the other is left out."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from streaming.core.envelope import Envelope, Position, end_of


def one_version(
    updates: Iterable[Envelope], after: Position, *, is_whole: bool = True
) -> list[Envelope]:
    """The updates behind `after` in order, each place once with its best claim, and of each block
    the version that begins first.

    What follows a block of which something was left out claims what it would have claimed behind
    the version that was told. Where the log ends with such a block (`is_whole`), the last frame
    left out is in the list all the same, and contradicts the one before: so far the log goes.
    """
    kept: list[Envelope] = []
    at = otherwise = after
    left_out: Envelope | None = None
    for entry in sorted(updates, key=lambda e: (e.position, e.previous)):
        if entry.position <= at:
            continue  # another copy
        is_of_other_chain = at < entry.previous <= otherwise
        is_same_block = entry.position.height == at.height
        if entry.contradicts(at) or (is_of_other_chain and is_same_block):
            otherwise, left_out = entry.position, entry
            continue
        kept.append(replace(entry, previous=at) if is_of_other_chain else entry)
        at, left_out = entry.position, None
    if left_out is not None and is_whole:
        kept.append(replace(left_out, previous=end_of(at.height - 1)))
    return kept
