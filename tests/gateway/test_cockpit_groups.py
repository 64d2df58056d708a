"""Who may look, change and act: each group against every page and every action of the admin, as
forged as it gets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from gateway.backoffice import groups
from tests.gateway.rows import make, unchecked
from tests.gateway.test_cockpit_lists import LIVE, REGISTERED, SINGLE, list_of
from tests.support.pages import without_frame

pytestmark = pytest.mark.django_db

GROUPS = ("operator", "support", "finance", "read-only")
#: Said a second time: which actions of lists are open to which groups; all others to none.
ACTIONS = {
    "tenants.Tenant": ({"suspend", "suspend_later", "resume", "reopen"}, {"operator"}),
    "tenants.APIKey": ({"rotate", "revoke", "kill", "release"}, {"operator"}),
    "tenants.ExchangeRails": ({"kill", "revive"}, {"operator", "support"}),
    "tenants.Membership": ({"make_owner", "delete_selected"}, {"operator"}),
    "tenants.Invitation": ({"resend", "withdraw"}, {"operator", "support"}),
    "tenants.WebhookEndpoint": ({"ping", "enable", "disable", "rotate_secret"}, {"operator"}),
    "tenants.Delivery": ({"replay"}, {"operator", "support"}),
    "nodes.UpstreamNode": ({"test_connection", "delete_selected"}, {"operator"}),
    "billing.Invoice": (
        {
            *("refresh", "finalize", "send", "record_payment"),
            *("credit", "void", "write_off", "discard", "again"),
        },
        {"finance"},
    ),
    "billing.CreditNote": ({"approve", "reject", "send"}, {"finance"}),
    "billing.Concession": ({"approve", "reject"}, {"finance"}),
    "billing.Payment": ({"allocate", "refund", "charge_back", "give_back"}, {"finance"}),
    "billing.Adjustment": ({"approve", "reject", "bill_now"}, {"finance"}),
    "billing.ChargeAttempt": ({"try_now", "refund", "set_aside"}, {"finance"}),
    "billing.ProviderEvent": ({"process_again"}, {"finance"}),
    "billing.ProviderCustomer": ({"refresh_method", "charge_open"}, {"finance"}),
    "billing.OwnTerms": ({"end"}, {"finance"}),
    "billing.DiscountGrant": ({"end"}, {"finance"}),
    "billing.AddOnSubscription": ({"end"}, {"finance"}),
    "exchange.EgressAddress": ({"delete_selected"}, {"operator"}),
    "backoffice.CostRate": ({"delete_selected"}, {"finance"}),
    "operations.Announcement": ({"delete_selected"}, {"operator", "support"}),
}
#: What of these another group has as well: who answers the phone stops a bot.
ALSO = {("tenants.APIKey", "support"): {"kill", "release"}}
#: Actions that change nothing, for whoever sees the list.
READING = {"export"}
#: What nobody but a superuser looks at.
HIDDEN = ("auth.", "account.", "mfa.", "axes.", "admin.")
#: What a group may change by a form.
FORMS = {
    "operator": {
        *("tenants.Tenant", "tenants.APIKey", "tenants.Plan", "tenants.Membership"),
        *("tenants.WebhookEndpoint", "billing.TenantTerms", "nodes.UpstreamNode"),
        *("tenants.ExchangeRails", "exchange.EgressAddress"),
        "tenants.Invitation",  # whose form has nothing to fill in
        *("operations.Incident", "operations.Announcement"),
    },
    "support": {
        *("tenants.Invitation", "tenants.ExchangeRails"),
        *("operations.Incident", "operations.Announcement"),
    },
    "finance": {"billing.TenantTerms", "billing.Seller", "backoffice.CostRate"},
    "read-only": set(),
}


#: Who has an action of a row's own page, where that is not who has those of the list.
DETAILS = {"view_as_customer": {"operator", "support"}}


def browser_of(group: str) -> Client:
    user = User.objects.create_user(group, f"{group}@example.com", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def _frameless() -> Iterator[None]:
    """What is in the frame is `test_the_sidebar_shows_what_may_be_seen`'s."""
    with without_frame():
        yield


@pytest.fixture(params=GROUPS)
def group(request: Any, operator: Client, settings: Any) -> str:
    settings.RELAY_UPSTREAMS = ""  # the list of upstreams is open
    return str(request.param)


def test_migrating_again_adds_and_takes_nothing_away() -> None:
    finance = Group.objects.get(name="finance")
    before = set(finance.permissions.all())
    own = Permission.objects.get(codename="change_tenant")
    finance.permissions.add(own)
    finance.permissions.remove(Permission.objects.get(codename="change_invoice"))
    for _ in range(2):
        groups.after_migrate()
        assert set(finance.permissions.all()) == before | {own}
    assert Group.objects.filter(name__in=GROUPS).count() == 4


def test_every_permission_in_the_table_exists() -> None:
    known = {
        (permission.content_type.app_label, permission.codename)
        for permission in Permission.objects.select_related("content_type")
    }
    for name in groups.MAY:
        for app, codenames in groups.codenames(name).items():
            assert {(app, codename) for codename in codenames} <= known
        # and the group has them
        held = Group.objects.get(name=name).permissions.values_list("codename", flat=True)
        assert set().union(*groups.codenames(name).values()) <= set(held)


# Permissions are the same rows on any database, and each list's questions test_cockpit_lists.py's.
@pytest.mark.any_database
@pytest.mark.usefixtures("_frameless")
def test_who_looks_and_who_changes(group: str) -> None:
    browser = browser_of(group)
    for model in REGISTERED:
        label = model._meta.label
        is_seen = not label.startswith(HIDDEN)
        if label.startswith("backoffice.") and group == "support":
            is_seen = False
        status = browser.get(list_of(model)).status_code
        assert status == (200 if is_seen else 403), (group, label)
        if label in LIVE or not is_seen:
            continue
        with unchecked():
            row = make(model)
            url = reverse(
                f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk]
            )
            assert browser.get(url).status_code == 200, (group, label)
            may_change = label in FORMS[group]
            before = model._default_manager.filter(pk=row.pk).values().get()
            answer = browser.post(url, {})
            assert (answer.status_code != 403) == may_change, (group, label)
            assert model._default_manager.filter(pk=row.pk).values().get() == before


@pytest.mark.any_database
@pytest.mark.usefixtures("_frameless")
def test_actions_are_for_whom_they_are_and_forged_ones_write_nothing(group: str) -> None:
    browser = browser_of(group)
    for model in REGISTERED:
        label, owner = model._meta.label, admin.site._registry[model]
        if label in LIVE | SINGLE or label.startswith(HIDDEN):
            continue
        names, allowed = ACTIONS.get(label, (set(), set()))
        open_ones = set(names) if group in allowed else ALSO.get((label, group), set())
        with unchecked():
            row = make(model)
            page = browser.get(list_of(model))
            context = page.context
            offered = set() if context is None or "cl" not in context else _offered(context)
            assert offered - READING == open_ones, (group, label)
            for action in {*names, *_all_actions(owner), "delete_selected"} - open_ones - READING:
                written = writes(
                    browser,
                    list_of(model),
                    {
                        "action": action,
                        "_selected_action": [row.pk],
                        "confirmed": "yes",
                        "post": "yes",
                        "reason": "forged",
                    },
                )
                assert not written, (group, label, action, written)


def _offered(context: Any) -> set[str]:
    form = context.get("action_form")
    return {name for name, _ in form.fields["action"].choices if name} if form else set()


def _all_actions(owner: Any) -> set[str]:
    return {action if isinstance(action, str) else action.__name__ for action in owner.actions}


def writes(browser: Client, url: str, data: dict[str, Any]) -> list[str]:
    """What a request writes, its own session aside."""
    with CaptureQueriesContext(connection) as seen:
        browser.post(url, data)
    statements = [query["sql"] for query in seen]
    is_write = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)", re.I)
    return [sql for sql in statements if is_write.match(sql) and "django_session" not in sql]


@pytest.mark.any_database
@pytest.mark.usefixtures("_frameless")
def test_pages_of_single_rows_are_as_guarded(group: str) -> None:
    """The actions on a row's own page, and pages that are no list."""
    browser = browser_of(group)
    for model in REGISTERED:
        owner = admin.site._registry[model]
        _, allowed = ACTIONS.get(model._meta.label, (set(), set()))
        for action in getattr(owner, "actions_detail", ()) or ():
            with unchecked():
                row = make(model)
                name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}"
                url = reverse(name, args=[row.pk])
                may = group in DETAILS.get(action, allowed or {"operator", "finance"})
                if may:
                    assert browser.get(url).status_code in (200, 302), (group, action)
                else:
                    assert browser.get(url).status_code == 403, (group, action)
                    assert not writes(browser, url, {"confirmed": "yes"}), (group, action)
    kick = browser.post(reverse("admin:nodes_opensession_disconnect"), {"session": "x-1"})
    assert (kick.status_code == 302) == (group in ("operator", "support"))
    assert (browser.get(reverse("cockpit:margin")).status_code == 200) == (group != "support")
    mail = browser.post(reverse("cockpit:test_mail"))
    assert (mail.status_code == 302) == (group in ("operator", "support"))


def test_without_a_group_there_is_nothing(operator: Client) -> None:
    user = User.objects.create_user("nobody", is_staff=True)
    browser = Client()
    browser.force_login(user)
    page = browser.get("/admin/").content.decode()
    assert "Nothing here is for you" in page
    assert "data-figure" not in page
    for name in ("cockpit:margin", "cockpit:test_mail"):
        assert browser.get(reverse(name)).status_code == 403
        assert Client().get(reverse(name)).status_code == 302


def test_the_sidebar_shows_what_may_be_seen(group: str) -> None:
    page = browser_of(group).get("/admin/")
    shown = {item["title"] for part in page.context["sidebar_navigation"] for item in part["items"]}
    assert {"Cockpit", "Tenants", "Invoices", "Upstreams", "Deliveries", "Changes"} <= shown
    assert "Operators" not in shown
    assert ("Gross margin" in shown) == (group != "support")


def test_every_model_of_ours_is_in_somebodys_sight() -> None:
    for app in groups.SEEN_BY_ALL:
        names = {f"view_{m._meta.model_name}" for m in apps.get_app_config(app).get_models()}
        assert names <= groups.codenames("read-only")[app]
