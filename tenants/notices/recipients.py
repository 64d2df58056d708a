"""Whom to mail: a port, because only the rooms that know people can say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tenants.models import Tenant

#: (tenant, kind) → mail addresses.
Recipients = Callable[[Tenant, str], Iterable[str]]


def nobody(tenant: Tenant, kind: str) -> Iterable[str]:
    """Nothing is mailed until somebody says to whom."""
    return ()


_recipients: Recipients = nobody


def plug(recipients: Recipients) -> None:
    """From now on this process asks `recipients`; called once, from an app's `ready`."""
    global _recipients
    _recipients = recipients


def of(tenant: Tenant, kind: str) -> list[str]:
    """Who gets this kind of notice of a tenant by mail."""
    return list(_recipients(tenant, kind))
