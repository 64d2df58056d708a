"""Forms that must not be carried out twice, however often they are sent."""

from __future__ import annotations

import uuid

from django.core.cache import cache
from django.http import HttpRequest
from redis.exceptions import RedisError

FIELD = "once"
KEPT_S = 3_600


def new_ticket() -> str:
    """For a hidden field of a form that is shown."""
    return uuid.uuid4().hex


def is_first(request: HttpRequest, what: str) -> bool:
    """Whether this form is sent for the first time, by its ticket, of whoever is signed in. One
    without a ticket never is. Where Redis is away nobody can tell, and the form is carried out:
    what it makes is listed, and can be taken back."""
    ticket = request.POST.get(FIELD, "")
    if not (len(ticket) == 32 and ticket.isalnum()):
        return False
    try:
        return bool(cache.add(f"once:{what}:{request.user.pk}:{ticket}", 1, KEPT_S))
    except (RedisError, OSError):
        return True
