"""What a plan allows, and how its allowances stand, in the words of a socket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streaming.core.counted import coin_of
from streaming.core.dialects import official
from streaming.core.session import Shortage
from streaming.core.topic import Topic
from streaming.ws.following import Following
from tenants.admission.caps import BYTES, COIN_MINUTES, COINS, MESSAGES, Cap, Standing
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import (
    NotInPlan,
    QuotaExhausted,
    TooManyCoins,
    TooManySubscriptions,
    TooManyUsers,
)
from tenants.admission.quotas import Lease


class PlanLease:
    """The tenant's subscriptions as a session sees them. Implements
    `streaming.core.session.SubscriptionLease`."""

    __slots__ = ("_admission", "_following", "_lease")

    def __init__(self, lease: Lease, admission: AdmissionControl, *, following: Following) -> None:
        self._lease = lease
        self._admission = admission
        self._following = following

    @property
    def retention_s(self) -> float | None:
        """How far back a resume may begin."""
        hours = self._lease.principal.limits.retention_hours
        return None if hours is None else hours * 3600.0

    def subscribe(self, topic: Topic) -> Shortage | None:
        """Take one, or say what there is none left of."""
        principal, channel = self._lease.principal, topic.kind.value
        channels = principal.limits.channels
        try:
            if channels is not None and channel not in channels:
                raise NotInPlan("channel", channel, channels)
            self._admission.check_quota(principal, MESSAGES, BYTES, channel=channel)
            if coin_of(topic):
                self._admission.check_quota(principal, COIN_MINUTES, channel=COINS)
            self._lease.subscribe(topic.coin, topic.user)
        except TooManySubscriptions as denied:
            text = official.TOO_MANY_SUBSCRIPTIONS.format(limit=denied.limit)
            return Shortage("limit", str(denied), text, denied.limit, denied.used)
        except TooManyUsers as denied:
            text = official.TOO_MANY_USERS.format(limit=denied.limit)
            return Shortage(denied.code, str(denied), text, denied.limit, denied.used)
        except TooManyCoins as denied:
            text = official.TOO_MANY_COINS.format(limit=denied.limit)
            return Shortage(denied.code, str(denied), text, denied.limit, denied.used)
        except NotInPlan as denied:
            text = f"Invalid subscription: {denied}"
            return Shortage(denied.code, str(denied), text, has=tuple(denied.has))
        except QuotaExhausted as denied:
            return Shortage(denied.code, str(denied), str(denied), denied.limit, denied.used)
        return None

    def unsubscribe(self, topic: Topic) -> None:
        """Give one back."""
        self._lease.unsubscribe(topic.coin, topic.user)

    def follow(self, topic: Topic) -> None:
        """Count its coin by the minute; not in a dashboard, where it is free."""
        if not self._lease.principal.is_dashboard:
            self._following.begin(self._lease.principal.key_id, coin_of(topic))

    def unfollow(self, topic: Topic) -> None:
        """No more."""
        if not self._lease.principal.is_dashboard:
            self._following.end(self._lease.principal.key_id, coin_of(topic))


def follows(topics: Iterable[Topic], cap: Cap) -> bool:
    """Whether a connection with these topics uses up `cap`. One that follows nothing yet does where
    nothing is left to follow."""
    if COIN_MINUTES in cap.metrics:
        return cap.covers(COINS) and any(coin_of(topic) for topic in topics)
    if not {MESSAGES, BYTES}.intersection(cap.metrics):
        return False
    return cap.is_whole or any(cap.covers(topic.kind.value) for topic in topics)


def allowance_fields(standing: Standing) -> dict[str, Any]:
    """Of a `notice`: how an allowance stands."""
    cap = standing.cap
    percent = f"{standing.threshold} %" if standing.threshold else "0 %"
    end = f"{cap.ends_at:%Y-%m-%dT%H:%M:%SZ}"
    msg = f"{percent} of the allowance '{cap.code}' are used; it begins anew at {end}."
    if standing.is_exhausted:
        msg = f"The allowance '{cap.code}' is used up; it begins anew at {end}."
    return {
        "code": "quota_exhausted" if standing.is_exhausted else "allowance_used",
        "msg": msg,
        "allowance": cap.code,
        "percent": standing.threshold,
        "used": standing.used,
        "limit": cap.units,
        "resetsAt": end,
    }
