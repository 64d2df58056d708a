"""A tenant whose plan never refuses the load clients; prints its key, all that the bench needs.

With the argument `http` one whose every request is charged, against a rate that never ends."""

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

    from tenants.admission.principal import DEFAULT_SCOPES, Scope
    from tenants.models import Plan, Quota, Tenant
    from tenants.services import create_tenant, issue_key

    is_http = sys.argv[1:] == ["http"]
    slug = "bench-http" if is_http else "bench"
    rate = {"requests_per_s": 100_000_000, "burst": 200_000_000} if is_http else {}
    plan, is_new = Plan.objects.get_or_create(code=slug, defaults={"name": slug})
    if is_new:
        Quota.objects.create(
            plan=plan, max_connections=100_000, max_subscriptions=1_000_000, **rate
        )
        create_tenant(name=slug, slug=slug, plan=plan)
    tenant = Tenant.objects.get(slug=slug)
    scopes = (*DEFAULT_SCOPES, Scope.EVM, Scope.EXCHANGE)
    print(issue_key(tenant=tenant, name="load client", scopes=scopes).raw, flush=True)


if __name__ == "__main__":
    main()
