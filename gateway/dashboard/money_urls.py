"""Routes of the pages about money and people, below `/app/<slug>/`."""

from __future__ import annotations

from django.urls import path

from gateway.dashboard.pages import billing_profile, plan

MONEY_PAGES = [
    path("plan", plan.plan, name="plan"),
    path("plan/change/<slug:code>", plan.change, name="plan_change"),
    path("plan/change/<slug:code>/confirm", plan.confirm, name="plan_confirm"),
    path("plan/keep", plan.keep, name="plan_keep"),
    path("plan/cancel", plan.cancel, name="plan_cancel"),
    path("plan/add-on", plan.add_on, name="plan_add_on"),
    path("plan/billing-profile", billing_profile.profile, name="billing_profile"),
    path("plan/payment-method", billing_profile.payment_method, name="payment_method"),
]
