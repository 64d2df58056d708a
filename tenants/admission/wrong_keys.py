"""Addresses that send keys which are none. Time comes in as an argument.

Guessing one is hopeless (190 random bits); what a flood of invented keys costs is a look-up each.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_network

from tenants.admission.access import parse_address
from tenants.admission.limiter import TokenBucket

#: Wrong keys of one address in a process: a fleet of bots with a revoked key stays far below.
WRONG_PER_MINUTE, WRONG_BURST = 60, 100
#: About 0.3 KB each; beyond it the address that was quiet for longest begins anew.
MAX_ADDRESSES = 10_000


class WrongKeys:
    """Counts wrong keys by address; IPv6 by network of 64 bits, of which anybody has one whole."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._max_addresses = max_addresses
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def count(self, address: str, *, now_s: float) -> float:
        """One more from there. Answers 0.0, or in how many seconds the address may be wrong again.

        An address that is none (a unix socket) is not counted.
        """
        if not (place := _place(address)):
            return 0.0
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = TokenBucket(
                capacity=WRONG_BURST, refill_per_s=WRONG_PER_MINUTE / 60, now_s=now_s
            )
            if len(self._buckets) > self._max_addresses:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(place)
        return bucket.take(1, now_s=now_s)

    def is_flooding(self, address: str, *, now_s: float) -> bool:
        """Whether the next wrong key from there is one too many. Spends nothing."""
        bucket = self._buckets.get(_place(address)) if self._buckets else None
        return bucket is not None and bucket.take(0, now_s=now_s) == 0.0 and bucket.level < 1

    def __len__(self) -> int:
        return len(self._buckets)


def _place(address: str) -> str:
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed) >> 64 << 64, 64)).network_address)
    return str(parsed) if parsed is not None else ""
