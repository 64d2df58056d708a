"""How rates stand, as HTTP header fields of draft-ietf-httpapi-ratelimit-headers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenants.admission.limiter import Rate
from tenants.admission.rates import Level

Headers = list[tuple[bytes, bytes]]


def rate_headers(levels: Sequence[tuple[str, Level]]) -> Headers:
    """`RateLimit-Policy` with the burst (`q`) and in how many seconds it fills (`w`), `RateLimit`
    with what is left (`r`) and in how many seconds all is there again (`t`); none for no rates."""
    if not levels:
        return []
    policies = ", ".join(f'"{name}";{_policy(level.rate)}' for name, level in levels)
    left = ", ".join(
        f'"{name}";r={int(level.remaining)};t={math.ceil(level.full_in_s)}'
        for name, level in levels
    )
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", left.encode())]


def _policy(rate: Rate) -> str:
    return f"q={rate.burst};w={math.ceil(rate.burst * 60 / rate.per_minute)}"
