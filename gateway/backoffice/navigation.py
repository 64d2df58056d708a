"""The sidebar: by what somebody wants to do, not by app. What one may not see is not in it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.http import HttpRequest
from django.urls import reverse


class Item(NamedTuple):
    """A page: its title, icon, the permission to look at it, and where it is (by default the list
    of the permission's model)."""

    title: str
    icon: str
    permission: str
    page: str = ""

    @property
    def url_name(self) -> str:
        app, _, codename = self.permission.partition(".view_")
        return self.page or f"admin:{app}_{codename}_changelist"


TASKS: dict[str, tuple[Item, ...]] = {
    "Customers": (
        Item("Tenants", "apartment", "tenants.view_tenant"),
        Item("People", "group", "tenants.view_membership"),
        Item("Invitations", "outgoing_mail", "tenants.view_invitation"),
        Item("Open sessions", "cable", "nodes.view_opensession"),
    ),
    "Keys and limits": (
        Item("API keys", "key", "tenants.view_apikey"),
        Item("Guard rails", "fence", "tenants.view_exchangerails"),
        Item("Own limits", "tune", "tenants.view_quotaoverride"),
        Item("Allowances", "data_usage", "tenants.view_allowance"),
        Item("Warnings", "notification_important", "tenants.view_quotawarning"),
    ),
    "Usage": (
        Item("By month", "calendar_month", "billing.view_monthlyrollup"),
        Item("By day", "calendar_today", "billing.view_dailyrollup"),
        Item("By hour", "schedule", "billing.view_usagerollup"),
        Item("By coin", "toll", "billing.view_coinrollup"),
        Item("Ledger", "receipt_long", "billing.view_ledgerentry"),
        Item("Batches", "inventory_2", "billing.view_usagebatch"),
        Item("Quarantine", "report", "billing.view_quarantinedbatch"),
    ),
    "Prices": (
        Item("Terms of tenants", "handshake", "billing.view_tenantterms"),
        Item("Plans", "sell", "tenants.view_plan"),
        Item("Plan versions", "history_edu", "billing.view_planversion"),
        Item("Add-on versions", "extension", "billing.view_addonversion"),
        Item("Own terms", "contract_edit", "billing.view_ownterms"),
        Item("Discounts", "percent", "billing.view_discountgrant"),
    ),
    "Invoices": (
        Item("Invoices", "request_quote", "billing.view_invoice"),
        Item("Credit notes", "undo", "billing.view_creditnote"),
        Item("Payments", "payments", "billing.view_payment"),
        Item("Adjustments", "edit_note", "billing.view_adjustment"),
        Item("Concessions", "volunteer_activism", "billing.view_concession"),
        Item("Wallets", "account_balance_wallet", "billing.view_walletentry"),
        Item("Gross margin", "monitoring", "backoffice.view_costrate", "cockpit:margin"),
        Item("Cost rates", "price_change", "backoffice.view_costrate"),
        Item("Seller", "store", "billing.view_seller"),
    ),
    "Upstreams": (
        Item("Upstreams", "dns", "nodes.view_upstreamnode"),
        Item("Gaps", "broken_image", "nodes.view_gaprecord"),
        Item("Egress addresses", "output", "exchange.view_egressaddress"),
        Item("Failed requests", "error", "requests.view_requestrecord"),
        Item("Order traces", "route", "exchange.view_ordertrace"),
    ),
    "Status page": (
        Item("Incidents", "emergency_home", "operations.view_incident"),
        Item("Announcements", "campaign", "operations.view_announcement"),
        Item("Freshness", "monitoring", "operations.view_freshness"),
    ),
    "Deliveries": (
        Item("Deliveries", "send", "tenants.view_delivery"),
        Item("Webhooks", "webhook", "tenants.view_webhookendpoint"),
        Item("Notices", "campaign", "tenants.view_notice"),
        Item("Test the mail", "mark_email_read", "tenants.change_delivery", "cockpit:test_mail"),
    ),
    "Audit": (
        Item("Changes", "manage_search", "auditlog.view_logentry"),
        Item("Log-ins", "login", "axes.view_accesslog"),
        Item("Failed log-ins", "gpp_maybe", "axes.view_accessattempt"),
        Item("Operators", "badge", "auth.view_user"),
        Item("Groups", "groups", "auth.view_group"),
    ),
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups of pages that this operator may look at, as the theme wants them."""
    groups: list[dict[str, Any]] = [
        {"items": [{"title": "Cockpit", "icon": "dashboard", "link": reverse("admin:index")}]}
    ]
    for task, items in TASKS.items():
        seen = [
            {
                "title": item.title,
                "icon": item.icon,
                "link": (link := reverse(item.url_name)),
                # The theme's own rule lights up every page whose address begins alike.
                "active": request.path.startswith(link),
            }
            for item in items
            if request.user.has_perm(item.permission)
        ]
        if seen:
            is_open = any(item["active"] for item in seen)
            groups.append({"title": task, "collapsible": not is_open, "items": seen})
    return groups
