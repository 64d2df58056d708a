"""What is said above every page of a tenant: that it is suspended or will be, and whatever other
rooms have to announce."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext as _

from gateway.dashboard.words import word
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Announcement:
    """One line; `level` is info, warning or error. `url` leads to more."""

    text: str | Promise
    level: str = "info"
    url: str = ""


Source = Callable[[Tenant], Iterable[Announcement]]


def of_suspension(tenant: Tenant) -> Iterable[Announcement]:
    """The banner of a tenant whose keys open nothing, or soon will not."""
    if tenant.closed_at is not None:
        yield Announcement(
            _("This account was closed on %(at)s UTC. Its invoices stay here.")
            % {"at": f"{tenant.closed_at:%Y-%m-%d %H:%M}"},
            "error",
        )
    elif tenant.suspended_at is not None:
        yield Announcement(
            _("This account is suspended: its keys open nothing. %(why)s")
            % {"why": word(tenant.suspension_reason)},
            "error",
        )
    elif tenant.suspend_at is not None:
        yield Announcement(
            _("This account will be suspended at %(at)s UTC. %(why)s")
            % {"at": f"{tenant.suspend_at:%Y-%m-%d %H:%M}", "why": tenant.suspend_reason},
            "warning",
        )


#: Asked in this order. Other rooms add theirs when their app is ready.
SOURCES: list[Source] = [of_suspension]


def announcements(tenant: Tenant) -> list[Announcement]:
    """All that is to be said to a tenant's people now."""
    return [announcement for source in SOURCES for announcement in source(tenant)]
