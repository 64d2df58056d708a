"""Who gives a place when all are taken, so that who came first does not keep them all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sized


def giver(held: Mapping[int, Sized], tenant_id: int) -> int | None:
    """The tenant that holds the most, if it is one more than `tenant_id` would have with its place;
    None: nobody has more, and it gets none."""
    most = max(held, key=lambda each: len(held[each]), default=tenant_id)
    mine = len(held[tenant_id]) if tenant_id in held else 0
    return most if most in held and len(held[most]) > mine + 1 else None
