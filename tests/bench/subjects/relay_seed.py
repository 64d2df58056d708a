"""A tenant whose plan never refuses the load clients; prints its key, all that the bench needs."""

from __future__ import annotations

import contextlib
import sys

import django
from django.core.management import call_command


def main() -> None:
    """Migrate, and issue one key."""
    django.setup()
    with contextlib.redirect_stdout(sys.stderr):
        call_command("migrate", interactive=False, verbosity=0)

    from tenants.models import Plan, Quota, Tenant
    from tenants.services import create_tenant, issue_key

    plan, is_new = Plan.objects.get_or_create(code="bench", defaults={"name": "Bench"})
    if is_new:
        Quota.objects.create(plan=plan, max_connections=100_000, max_subscriptions=1_000_000)
        create_tenant(name="Bench", slug="bench", plan=plan)
    tenant = Tenant.objects.get(slug="bench")
    print(issue_key(tenant=tenant, name="load client").raw, flush=True)


if __name__ == "__main__":
    main()
