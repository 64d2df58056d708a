"""Routes of the pages about money and people, below `/app/<slug>/`."""

from __future__ import annotations

from django.urls import path

from gateway.dashboard.pages import billing_profile, invoices, people_log, plan, settings, team

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
    path("team", team.team, name="team"),
    path("team/invitations/<int:pk>", team.invitation, name="team_invitation"),
    path("team/members/<int:pk>", team.member, name="team_member"),
    path("team/leave", team.leave, name="team_leave"),
    path("team/transfer", team.transfer, name="team_transfer"),
    path("team/second-factor", team.second_factor, name="team_second_factor"),
    path("team/sessions", people_log.sessions, name="sessions"),
    path("team/sessions/end", people_log.end_session, name="session_end"),
    path("team/audit", people_log.audit, name="audit"),
    path("settings", settings.settings, name="settings"),
    path("settings/terms", settings.accept_terms, name="terms_accept"),
    path("settings/export", settings.take_out, name="take_out"),
    path("settings/close", settings.close, name="close"),
]
