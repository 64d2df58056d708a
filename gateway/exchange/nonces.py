"""What of an action's nonce and clock its customer should be warned of. Pure; nothing is refused
for it, because only the exchange knows what it took.

Source: the exchange's page on nonces: of each signer the 100 highest are kept, a new one must be
above the lowest of them, unused, and within two days before and one day after the block's time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import NamedTuple

KEPT = 100
OLDEST_MS, NEWEST_MS = 2 * 86_400_000, 86_400_000
#: A nonce is by convention the time in ms; one further off than this shows a clock that is wrong.
SKEW_MS = 5_000
#: Before an action expires it must get into a block.
SOON_MS = 500
MAX_SIGNERS = 5_000

REUSED, TOO_LOW, OUTSIDE = "nonce_reused", "nonce_too_low", "nonce_outside"
SKEWED, EXPIRES = "clock_skew", "expires_soon"
CODES = (REUSED, TOO_LOW, OUTSIDE, SKEWED, EXPIRES)


class Warned(NamedTuple):
    """A stable code, and one line."""

    code: str
    text: str


def reused(nonce: int) -> Warned:
    """What is said of a nonce that was sent before."""
    return Warned(
        REUSED, f"nonce {nonce} was sent before by this signer; the exchange takes it once"
    )


class Nonces:
    """Those that this process has seen; the longest silent signers are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, list[int]] = OrderedDict()

    def use(self, signer: str, nonce: int) -> Warned | None:
        """A signer sends a nonce; what is wrong with it, if anything."""
        kept = self._kept.get(signer)
        if kept is None:
            kept = self._kept[signer] = []
            if len(self._kept) > MAX_SIGNERS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(signer)
        at = bisect_left(kept, nonce)
        if at < len(kept) and kept[at] == nonce:
            return reused(nonce)
        if len(kept) == KEPT:
            if at == 0:
                text = f"nonce {nonce} is below the {KEPT} highest of this signer ({kept[0]} on)"
                return Warned(TOO_LOW, f"{text}; the exchange takes none of those")
            del kept[0]
        insort(kept, nonce)
        return None

    def give_back(self, signer: str, nonce: int) -> None:
        """It was not sent, so it may be."""
        kept = self._kept.get(signer, [])
        at = bisect_left(kept, nonce)
        if at < len(kept) and kept[at] == nonce:
            del kept[at]


def clock_of(nonce: int, expires_after: object, *, now_ms: float) -> list[Warned]:
    """What the times in an envelope say of its sender's clock."""
    found = []
    ahead_ms = nonce - now_ms
    if not -OLDEST_MS < ahead_ms < NEWEST_MS:
        text = f"nonce {nonce} is not within two days before and one day after now"
        found.append(Warned(OUTSIDE, f"{text}; the exchange refuses it"))
    elif abs(ahead_ms) > SKEW_MS:
        side = "ahead of" if ahead_ms > 0 else "behind"
        text = f"nonce is {abs(ahead_ms) / 1e3:.1f} s {side} the relay's clock; set your clock"
        found.append(Warned(SKEWED, text))
    if isinstance(expires_after, int) and expires_after - now_ms < SOON_MS:
        text = f"expiresAfter leaves {expires_after - now_ms:.0f} ms"
        found.append(Warned(EXPIRES, f"{text}; what expires counts five times at the exchange"))
    return found
