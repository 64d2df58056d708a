"""Settings of invoices, read: the dunning schedule, what numbers begin with. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

REMIND, SUSPEND = "remind", "suspend"
MAX_DAYS = 365


class Step(NamedTuple):
    """What is done `days` after the due date."""

    days: int
    action: str


def read_schedule(words: Sequence[str]) -> list[Step]:
    """`3:remind`, `30:suspend`, … in order. Raises ValueError that says what is wrong."""
    steps = []
    for word in words:
        days, _, action = word.partition(":")
        if not days.isdecimal() or action not in {REMIND, SUSPEND} or int(days) > MAX_DAYS:
            raise ValueError(
                f"{word!r} is not like 3:remind or 30:suspend, of at most {MAX_DAYS} days"
            )
        steps.append(Step(int(days), action))
    if any(one.days >= other.days for one, other in pairwise(steps)):
        raise ValueError("its days must ascend")
    return steps


def read_prefix(text: str) -> str:
    """What numbers begin with. Raises ValueError."""
    if not re.fullmatch(r"[A-Z0-9]{1,12}", text) or text == "CN":
        raise ValueError(f"{text!r} is not 1 to 12 of A-Z and 0-9, or is CN, the credit notes'")
    return text
