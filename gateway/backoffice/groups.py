"""What each group of operators may do. After every migration the groups get what this table says
and they lack, so an upgrade's new pages are open to whom they concern; nothing is taken away, and
other groups are nobody's business here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db.models import Q

#: Whose models everybody of the company may look at: none of them shows a secret. Not `auth`,
#: `account` and `mfa`: who is an operator is a superuser's business.
SEEN_BY_ALL = ("tenants", "billing", "nodes", "exchange", "requests", "operations", "auditlog")
#: What our traffic costs, and so what each customer brings.
SEEN_BY = {"backoffice": ("read-only", "operator", "finance")}

#: By group: `app.model` and what may be done with it beside looking. To "change" what has no form
#: is to use its actions.
MAY: Mapping[str, Mapping[str, str]] = {
    "read-only": {},
    "support": {
        "tenants.customer": "view_as",  # the permission view_as_customer
        "tenants.invitation": "change",
        "tenants.delivery": "change",
        "tenants.exchangerails": "add change",
        "nodes.opensession": "change",
        "operations.incident": "add change",
        "operations.incidentupdate": "add",
        "operations.announcement": "add change delete",
    },
    "operator": {
        "tenants.customer": "view_as",
        "tenants.tenant": "add change",
        "tenants.apikey": "add change",
        "tenants.exchangerails": "add change",
        "exchange.egressaddress": "add change delete",
        "tenants.plan": "add change",
        "tenants.quota": "add change",
        "tenants.membership": "change delete",
        "tenants.invitation": "add change",
        "tenants.billingprofile": "add change",
        "tenants.webhookendpoint": "add change",
        "tenants.delivery": "change",
        "billing.tenantterms": "change",
        "nodes.upstreamnode": "add change delete",
        "nodes.opensession": "change",
        "operations.incident": "add change",
        "operations.incidentupdate": "add",
        "operations.announcement": "add change delete",
    },
    "finance": {
        "billing.tenantterms": "change",
        "billing.planversion": "add",
        "billing.addonversion": "add",
        "billing.ownterms": "add change",
        "billing.discountgrant": "add change",
        "billing.addonsubscription": "add change",
        "billing.walletentry": "add",
        "billing.invoice": "change",
        "billing.creditnote": "change",
        "billing.concession": "change",
        "billing.payment": "change",
        "billing.adjustment": "add change",
        "billing.seller": "add change",
        "billing.periodlock": "add",
        "backoffice.costrate": "add change delete",
    },
}


def codenames(group: str) -> dict[str, set[str]]:
    """By app, the codenames of what a group may do."""
    found: dict[str, set[str]] = {}
    for app in (*SEEN_BY_ALL, *(app for app, groups in SEEN_BY.items() if group in groups)):
        models = apps.get_app_config(app).get_models()
        found[app] = {f"view_{model._meta.model_name}" for model in models}
    for label, acts in MAY[group].items():
        app, _, model = label.partition(".")
        found[app] |= {f"{act}_{model}" for act in acts.split()}
    return found


def update_groups(using: str = "default") -> None:
    """Make the groups, and give them what they lack. Twice is once."""
    for name in MAY:
        group, _ = Group.objects.using(using).get_or_create(name=name)
        wanted = list(_permissions(codenames(name), using))
        if missing := set(wanted) - set(group.permissions.using(using)):
            group.permissions.add(*missing)


def _permissions(of: Mapping[str, Iterable[str]], using: str) -> Iterable[Permission]:
    wanted = Q(pk=None)
    for app, names in of.items():
        wanted |= Q(content_type__app_label=app, codename__in=names)
    return Permission.objects.using(using).filter(wanted)


def after_migrate(using: str = "default", **_: Any) -> None:
    """The end of `manage.py migrate`."""
    update_groups(using)
