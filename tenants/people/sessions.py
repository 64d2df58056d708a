"""The log-ins of a person: where from, since when, last seen; and their end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone

from tenants.dashboard_tokens import end_session

#: How often a log-in that is used is written down again.
EVERY_S = 300
#: In a session: when that was last done.
_SEEN = "seen"


@dataclass(frozen=True, slots=True)
class LogIn:
    """A log-in that is still one. Its key is a secret, and stays in the row."""

    row: UserSession
    is_this: bool


def note_seen(request: HttpRequest) -> None:
    """Write down that a log-in is used, at most every five minutes; also one from before there was
    a list of them."""
    now = int(time.time())
    if now - int(request.session.get(_SEEN, 0)) >= EVERY_S:
        request.session[_SEEN] = now
        UserSession.objects.create_from_request(request)


def log_ins(user: User, session_key: str) -> list[LogIn]:
    """Those of somebody that are still open, the last seen first. Two statements."""
    rows = list(UserSession.objects.filter(user=user).order_by("-last_seen_at", "-pk"))
    keys = {row.session_key for row in rows}
    alive = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now()).values_list(
            "session_key", flat=True
        )
    )
    return [LogIn(row, row.session_key == session_key) for row in rows if row.session_key in alive]


def end_log_in(user: User, pk: int) -> bool:
    """End one of somebody's own, and what its pages hold open; whether there was one."""
    row = UserSession.objects.filter(user=user, pk=pk).first()
    if row is None:
        return False
    _end(row)
    return True


def end_others(user: User, session_key: str) -> int:
    """End all but this one; how many that were."""
    rows = list(UserSession.objects.filter(user=user).exclude(session_key=session_key))
    for row in rows:
        _end(row)
    return len(rows)


def _end(row: UserSession) -> None:
    key = row.session_key
    row.end()
    end_session(key)
