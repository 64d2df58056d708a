"""The cast: Ada owns Acme, Cleo belongs to somebody else and must see nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

from auditlog.context import disable_auditlog
from django.contrib.auth.models import User
from django.test import Client

from tenants import services
from tenants.models import Plan, Quota, Tenant


@dataclass(frozen=True, slots=True)
class Cast:
    """Two tenants on two plans."""

    acme: Tenant
    other: Tenant
    small: Plan
    large: Plan


def make_plan(code: str, *, max_connections: int, max_subscriptions: int) -> Plan:
    """A plan with its quota."""
    plan = Plan.objects.create(code=code, name=code.title())
    Quota.objects.create(
        plan=plan, max_connections=max_connections, max_subscriptions=max_subscriptions
    )
    return plan


def make_cast() -> Cast:
    """Ada's Acme on a small plan, Cleo's company on a large one."""
    # More than half of its work would be entries that no test looks at.
    with disable_auditlog():
        small = make_plan("small", max_connections=2, max_subscriptions=10)
        large = make_plan("large", max_connections=100, max_subscriptions=1_000)
        return Cast(
            acme=services.create_tenant(name="Acme", plan=small),
            other=services.create_tenant(name="Cleo and Sons", plan=large),
            small=small,
            large=large,
        )


def operator_client() -> Client:
    """A browser in which an operator is logged in."""
    client = Client()
    client.force_login(User.objects.create_superuser("op", password="not used"))
    return client
