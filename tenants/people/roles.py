"""Which role may do what: one table, without Django, that every door asks."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody is to a tenant. The values are what the database holds."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    FINANCE = "finance"
    VIEWER = "viewer"


class May(StrEnum):
    """What can be allowed."""

    SEE_USAGE = "see usage"
    SEE_PEOPLE = "see people"
    SEE_CONNECTIONS = "see connections"
    SEE_KEYS = "see keys"
    MANAGE_KEYS = "manage keys"
    SEE_INVOICES = "see invoices"
    PAY_INVOICES = "pay invoices"
    EDIT_BILLING_PROFILE = "edit the billing profile"
    CHANGE_PLAN = "change the plan"
    EDIT_TENANT = "edit the tenant"
    ACCEPT_TERMS = "accept the terms"
    MANAGE_PEOPLE = "manage people"
    MANAGE_OWNERS = "manage owners"
    DELETE_TENANT = "delete the tenant"


_VIEWER = frozenset({May.SEE_USAGE, May.SEE_PEOPLE})
_OWNERS_ONLY = frozenset({May.MANAGE_OWNERS, May.DELETE_TENANT})

ALLOWED: dict[Role, frozenset[May]] = {
    Role.OWNER: frozenset(May),
    Role.ADMIN: frozenset(May) - _OWNERS_ONLY,
    Role.DEVELOPER: _VIEWER | {May.SEE_CONNECTIONS, May.SEE_KEYS, May.MANAGE_KEYS},
    Role.FINANCE: _VIEWER | {May.SEE_INVOICES, May.PAY_INVOICES, May.EDIT_BILLING_PROFILE},
    Role.VIEWER: _VIEWER,
}


def may(role: str, act: May) -> bool:
    """Whether somebody in `role` may do `act`. An unknown role may do nothing."""
    return act in ALLOWED.get(role, frozenset())  # type: ignore[call-overload]


def may_manage(role: str, *, of: str) -> bool:
    """Whether somebody in `role` may give, change or take the role `of`. Only owners make and
    unmake owners: else an admin could take the company."""
    return may(role, May.MANAGE_OWNERS if of == Role.OWNER else May.MANAGE_PEOPLE)
