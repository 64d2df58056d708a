"""From a stranger to the owner of a tenant."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.text import slugify

from tenants import joining, services
from tenants.models import Membership, Plan, Tenant
from tenants.people.services import accept_terms, make_first_owner


@transaction.atomic
def open_account(*, user: User, company: str, from_address: str | None) -> Membership:
    """A new customer named `company`, with `user` as its owner who has accepted the terms, on the
    plan that sign-ups are on when there is one."""
    name = " ".join(company.split())
    plan = Plan.objects.filter(code=settings.RELAY_SIGNUP_PLAN, is_active=True).first()
    tenant = services.create_tenant(name=name, plan=None, slug=_free_slug(name))
    if plan is not None:
        joining.put_on(tenant, plan)
    owner = make_first_owner(tenant=tenant, user=user)
    accept_terms(by=owner, version=settings.RELAY_TERMS_VERSION, from_address=from_address)
    return owner


def _free_slug(name: str) -> str:
    """`acme`, or `acme-4f1a09c2` where that is taken: random, since a count would be a race and
    tell how many there are."""
    base = slugify(name)[:50] or "tenant"
    if not Tenant.objects.filter(slug=base).exists():
        return base
    return f"{base}-{secrets.token_hex(4)}"
