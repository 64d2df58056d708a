"""The demo that a fresh relay starts with: prices, a tenant on a plan, a key, an operator, a
customer. The same ones at every start.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from billing.catalogue.load import load_first
from billing.rating.seed import load as seed_book
from relay_site.secrets import read_json, write_private
from tenants import services
from tenants.admission.keys import digest, is_well_formed
from tenants.admission.principal import DEFAULT_SCOPES, Scope
from tenants.models import APIKey, Membership, Plan, Quota, Tenant
from tenants.people.services import make_first_owner

TENANT_SLUG = "demo"
PLAN_CODE = "demo"
OPERATOR = "operator"
#: Who owns the demo tenant and signs in to its dashboard. Nobody's address: no mail arrives there.
CUSTOMER = "customer@relay.invalid"

#: Beyond what one machine serves, so that the demo shows the machine's limits and not the plan's.
MAX_CONNECTIONS = 20_000
MAX_SUBSCRIPTIONS = 1_000_000


@dataclass(frozen=True, slots=True)
class Demo:
    """What the printed summary and run.json tell; it is kept in `secrets/demo.json`, mode 0600."""

    api_key: str = field(repr=False)
    admin_user: str
    admin_password: str = field(repr=False)
    customer_user: str = ""
    customer_password: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, str]:
        """For run.json."""
        return dataclasses.asdict(self)


def publish_prices() -> int:
    """The seed's plans and add-ons where nothing is for sale yet, so that who signs up has a plan
    to join. How many were published; an operator's own are never touched."""
    return sum(row.state == "new" for row in load_first(seed_book(), by="first start"))


def seed(var: Path) -> Demo:
    """Make what is missing of the demo in the database, and return it. Twice is once.

    The key and the password are made once and kept in `var`; a key that was revoked, or that the
    database no longer knows, is replaced. An operator's changed password stays changed.
    """
    path = var / "secrets" / "demo.json"
    kept = read_json(path)
    with transaction.atomic():
        tenant = _tenant()
        api_key = str(kept.get("api_key", ""))
        if not _is_usable(api_key, tenant):
            issued = services.issue_key(
                tenant=tenant,
                name="demo",
                environment=APIKey.Environment.TEST,
                scopes=(*DEFAULT_SCOPES, Scope.EVM, Scope.EXCHANGE),
            )
            api_key = issued.raw
        password = str(kept.get("admin_password", "")) or secrets.token_urlsafe(12)
        users = get_user_model().objects
        if not users.filter(username=OPERATOR).exists():
            users.create_superuser(username=OPERATOR, password=password)
        customer_password = str(kept.get("customer_password", "")) or secrets.token_urlsafe(12)
        _customer(tenant, customer_password)
        demo = Demo(
            api_key=api_key,
            admin_user=OPERATOR,
            admin_password=password,
            customer_user=CUSTOMER,
            customer_password=customer_password,
        )
        # Inside the transaction: a key whose raw form could not be kept must not stay in the
        # database.
        if demo.as_dict() != kept:
            write_private(path, json.dumps(demo.as_dict(), indent=2) + "\n")
    return demo


def _tenant() -> Tenant:
    if tenant := Tenant.objects.filter(slug=TENANT_SLUG).first():
        return tenant
    plan, is_new = Plan.objects.get_or_create(code=PLAN_CODE, defaults={"name": "Demo"})
    if is_new:
        Quota.objects.create(
            plan=plan, max_connections=MAX_CONNECTIONS, max_subscriptions=MAX_SUBSCRIPTIONS
        )
    return services.create_tenant(name="Demo", plan=plan, slug=TENANT_SLUG, kind=Tenant.Kind.DEMO)


def _customer(tenant: Tenant, password: str) -> None:
    """The tenant's owner, with an address that counts as verified; where somebody belongs to it
    already, nobody is added."""
    if Membership.objects.for_tenant(tenant).exists():
        return
    users = get_user_model().objects
    user = users.filter(email=CUSTOMER).first() or users.create_user(
        username="customer", email=CUSTOMER, password=password
    )
    EmailAddress.objects.get_or_create(
        user=user, email=CUSTOMER, defaults={"verified": True, "primary": True}
    )
    make_first_owner(tenant=tenant, user=user)


def _is_usable(raw_key: str, tenant: Tenant) -> bool:
    if not is_well_formed(raw_key):
        return False
    key = APIKey.objects.filter(
        tenant=tenant, digest=digest(raw_key, settings.RELAY_KEY_PEPPER)
    ).first()
    return key is not None and key.revoked_at is None
