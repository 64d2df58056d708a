"""How a new tenant gets on its plan: a port, because only billing knows what is for sale."""

from __future__ import annotations

from collections.abc import Callable

from tenants import services
from tenants.models import Plan, Tenant

Join = Callable[[Tenant, Plan], None]


def without_prices(tenant: Tenant, plan: Plan) -> None:
    """On its bare limits: what holds until somebody who knows prices says otherwise."""
    services.change_plan(tenant, plan=plan)


_join: Join = without_prices


def plug(join: Join) -> None:
    """From now on this process asks `join`; called once, from an app's `ready`."""
    global _join
    _join = join


def put_on(tenant: Tenant, plan: Plan) -> None:
    """Put a tenant without a plan on one, with its limits and allowances, in the caller's
    transaction."""
    _join(tenant, plan)
