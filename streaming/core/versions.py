"""A block that two nodes count differently, as the replay log has it: both versions' frames, at
places of their own. One is told, whole; the other is left out."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from msgspec.structs import replace

from streaming.core.envelope import LAST_INDEX, Envelope, Position, end_of


def one_version(
    updates: Iterable[Envelope], after: Position, *, is_whole: bool = True
) -> list[Envelope]:
    """The updates behind `after` in order, each place once with its best claim, and of each block
    the version that begins first, or another where nobody says that this one is whole (who told it
    died in it).

    What follows a block of which something was left out claims what it would have claimed behind
    the version that was told; where there is no whole one, only the end of the block. Where the log
    ends with such a block (`is_whole`), the last frame left out is in the list all the same, and
    contradicts the one before: so far the log goes.
    """
    ordered = sorted(updates, key=lambda e: (e.position, e.previous))
    ends = {e.previous for e in ordered if e.previous.height < e.position.height}
    kept: list[Envelope] = []
    left_out: list[Envelope] = []  # of the block at `at`
    at = otherwise = after
    for entry in ordered:
        if entry.position <= at:
            continue  # another copy
        is_of_other_chain = at < entry.previous <= otherwise
        is_same_block = entry.position.height == at.height
        if entry.contradicts(at) or (is_of_other_chain and is_same_block):
            otherwise = entry.position
            left_out.append(entry)
            continue
        if is_of_other_chain or _steps_over(entry, at):
            if at in ends:
                entry = replace(entry, previous=at)
            elif whole := _whole(left_out, entry.previous, after):
                _put_back(kept, whole)
            else:
                entry = replace(entry, previous=end_of(at.height))
        if not is_same_block:
            left_out = []
        kept.append(entry)
        at = entry.position
    if left_out and otherwise > at and is_whole:
        kept.append(replace(left_out[-1], previous=end_of(at.height - 1)))
    return kept


def _steps_over(entry: Envelope, at: Position) -> bool:
    """Whether it goes on from another version of the block at `at`, which lies in what it claims
    to be nothing."""
    return entry.previous < at and entry.previous.height == at.height and at.index < LAST_INDEX


def _whole(left_out: list[Envelope], end: Position, after: Position) -> list[Envelope]:
    """The version that ends at `end`, if nothing of it is missing and nothing of another was
    given."""
    frames = [frame for frame in left_out if frame.position <= end]
    is_whole = (
        bool(frames)
        and frames[-1].position == end
        and not frames[0].contradicts(after)
        and all(frame.previous == before.position for before, frame in pairwise(frames))
    )
    return frames if is_whole else []


def _put_back(kept: list[Envelope], version: list[Envelope]) -> None:
    """Tell this version of the last block, and not the one that was begun."""
    first = version[0]
    while kept and kept[-1].position.height == first.position.height:
        if kept[-1].position <= first.previous:
            break
        kept.pop()
    kept.extend(version)
