"""Whom to mail, and in which language: ports, because only the rooms that know people can say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.conf import settings

from tenants.models import Tenant

#: (tenant, kind) → mail addresses.
Recipients = Callable[[Tenant, str], Iterable[str]]
#: (mail address, whose notice it is) → a code of LANGUAGES.
Language = Callable[[str, Tenant], str]


def nobody(tenant: Tenant, kind: str) -> Iterable[str]:
    """Nothing is mailed until somebody says to whom."""
    return ()


def default(address: str, tenant: Tenant) -> str:
    """Everybody reads the relay's own language until somebody says otherwise."""
    return settings.LANGUAGE_CODE


_recipients: Recipients = nobody
_language: Language = default


def plug(recipients: Recipients, language: Language = default) -> None:
    """From now on this process asks these; called once, from an app's `ready`."""
    global _recipients, _language
    _recipients, _language = recipients, language


def of(tenant: Tenant, kind: str) -> list[str]:
    """Who gets this kind of notice of a tenant by mail."""
    return list(_recipients(tenant, kind))


def language_of(address: str, tenant: Tenant) -> str:
    """In which language somebody reads there what a tenant is told."""
    return _language(address, tenant)
