"""Which nonces a signer may still use. Source: official docs, nonces and API wallets."""

from __future__ import annotations

from bisect import bisect_left

KEPT = 100
DAY_MS = 86_400_000
OLDEST_MS, NEWEST_MS = 2 * DAY_MS, DAY_MS


class Nonces:
    """The highest 100 nonces of one signer: a new one must be above the lowest of them, unused, and
    near the block's time.
    """

    def __init__(self) -> None:
        self._kept: list[int] = []

    def take(self, nonce: int, *, now_ms: int) -> str | None:
        """Use a nonce up; or the reason why it may not be used."""
        if not now_ms - OLDEST_MS < nonce < now_ms + NEWEST_MS:
            return f"Invalid nonce: {nonce} is not within two days before and one after {now_ms}"
        at = bisect_left(self._kept, nonce)
        if at < len(self._kept) and self._kept[at] == nonce:
            return f"Invalid nonce: duplicate nonce {nonce}"
        if len(self._kept) == KEPT:
            if at == 0:
                return f"Invalid nonce: {nonce} is not above {self._kept[0]}"
            del self._kept[0]
            at -= 1
        self._kept.insert(at, nonce)
        return None
