"""Routes of the pages about money and people, below `/app/<slug>/`."""

from __future__ import annotations

from django.urls import path

from gateway.dashboard.pages import billing_profile, invoices, plan

MONEY_PAGES = [
    path("plan", plan.plan, name="plan"),
    path("plan/change/<slug:code>", plan.change, name="plan_change"),
    path("plan/change/<slug:code>/confirm", plan.confirm, name="plan_confirm"),
    path("plan/keep", plan.keep, name="plan_keep"),
    path("plan/cancel", plan.cancel, name="plan_cancel"),
    path("plan/add-on", plan.add_on, name="plan_add_on"),
    path("plan/billing-profile", billing_profile.profile, name="billing_profile"),
    path("plan/payment-method", billing_profile.payment_method, name="payment_method"),
    path("invoices", invoices.invoices, name="invoices"),
    path("invoices/export", invoices.export, name="invoices_export"),
    path("invoices/payments", invoices.payments, name="payments"),
    path("invoices/credit-notes", invoices.credit_notes, name="credit_notes"),
    path(
        "invoices/credit-notes/<str:number>.<slug:format>",
        invoices.credit_note_file,
        name="credit_note_file",
    ),
    path("invoices/<str:number>.<slug:format>", invoices.invoice_file, name="invoice_file"),
    path("invoices/<str:number>", invoices.invoice, name="invoice"),
]
