"""Addresses that send keys which are none. Time comes in as an argument.

Guessing one is hopeless (190 random bits); what a flood of invented keys costs is a look-up each.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network

from tenants.admission.access import parse_address
from tenants.admission.limiter import Buckets, Rate

#: Wrong keys of one address in a process: a fleet of bots with a revoked key stays far below.
WRONG_PER_MINUTE, WRONG_BURST = 60, 100
WRONG_RATE = Rate(WRONG_PER_MINUTE, WRONG_BURST)
#: About 0.3 KB each; beyond it the address that was quiet for longest begins anew.
MAX_ADDRESSES = 10_000


class WrongKeys:
    """Counts wrong keys by address; IPv6 by network of 64 bits, of which anybody has one whole."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._buckets = Buckets(max_addresses)

    def count(self, address: str, *, now_s: float) -> float:
        """One more from there. Answers 0.0, or in how many seconds the address may be wrong again.

        An address that is none (a unix socket) is not counted.
        """
        place = _place(address)
        return self._buckets.take(place, WRONG_RATE, 1, now_s=now_s) if place else 0.0

    def is_flooding(self, address: str, *, now_s: float) -> bool:
        """Whether the next wrong key from there is one too many."""
        # Who never was wrong costs no parsing.
        return len(self) > 0 and self._buckets.is_empty(_place(address), now_s=now_s)

    def __len__(self) -> int:
        return len(self._buckets)


def _place(address: str) -> str:
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed) >> 64 << 64, 64)).network_address)
    return str(parsed) if parsed is not None else ""
