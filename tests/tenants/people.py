"""People for the tests: Ada owns Acme, Ben is asked in, Cleo belongs to somebody else."""

from __future__ import annotations

import itertools
import re
from typing import Any

from allauth.account.models import EmailAddress
from auditlog.context import disable_auditlog
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client

from tenants.models import Membership, Tenant
from tenants.people import services, tokens
from tenants.people.actors import Operator

_numbers = itertools.count(1)


# Here and below: who is only there for others has no entries in the audit log, half of the work.
@disable_auditlog()
def make_person(name: str, *, verified: bool = True) -> User:
    """A user with an e-mail address at example.com."""
    email = f"{name}@example.com"
    user = User.objects.create_user(f"{name}-{next(_numbers)}", email)
    EmailAddress.objects.create(user=user, email=email, verified=verified, primary=True)
    return user


@disable_auditlog()
def make_member(tenant: Tenant, name: str, role: str) -> Membership:
    """A member in `role`, as if invited."""
    return Membership.objects.create(tenant=tenant, user=make_person(name), role=role)


def last_link() -> str:
    """The path of the link in the newest mail."""
    found = re.search(r"https?://[^/\s]+(/invitations/\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found.group(1)


def last_digest() -> str:
    """What is kept of the token in the newest mail's link."""
    return tokens.digest(last_link().rpartition("/")[2])


def last_code() -> str:
    """The code in the newest mail of allauth's."""
    found = re.search(r"^\s*([A-Z0-9]{3,4}-?[A-Z0-9]{3,4})\s*$", str(mail.outbox[-1].body), re.M)
    assert found is not None, mail.outbox[-1].body
    return found.group(1)


def signed_in(user: User, **options: Any) -> Client:
    """A browser in which `user` is signed in."""
    client = Client(**options)
    client.force_login(user)
    return client


OPERATOR = Operator()


def owner_of(tenant: Tenant, name: str = "ada") -> Membership:
    """The tenant's first owner."""
    return services.make_first_owner(tenant=tenant, user=make_person(name))
