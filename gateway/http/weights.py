"""What an `/info` request weighs, by its type.

Source: the exchange's page on rate limits. What it adds for the length of an answer (1 for each 20
or 60 items) is not charged: it is known only after the work is done.
"""

from __future__ import annotations

from typing import Any

#: Every type that is not in the table.
DEFAULT_WEIGHT = 20
#: What is no request at all.
LEAST_WEIGHT = 1
WEIGHTS = {
    "l2Book": 2,
    "allMids": 2,
    "clearinghouseState": 2,
    "orderStatus": 2,
    "spotClearinghouseState": 2,
    "exchangeStatus": 2,
    "userRole": 60,
}


def weight_of(payload: Any) -> int:
    """The weight of a request's parsed body."""
    kind = payload.get("type") if isinstance(payload, dict) else None
    return WEIGHTS.get(kind, DEFAULT_WEIGHT) if isinstance(kind, str) else LEAST_WEIGHT
