"""Every path of the account API. Order traces join here once `gateway.exchange` keeps them."""

from __future__ import annotations

from django.urls import path, re_path

from gateway.api import billing, estimate, keys, live, pages, plans, usage, webhooks

urlpatterns = [
    path("schema", pages.schema, name="account-schema"),
    path("docs", pages.Docs.as_view(), name="account-docs"),
    path("account", live.AccountProfile.as_view()),
    path("members", live.Members.as_view()),
    path("keys", keys.Keys.as_view()),
    path("keys/<int:key_id>", keys.Key.as_view()),
    path("keys/<int:key_id>/rotate", keys.Rotate.as_view()),
    path("keys/<int:key_id>/rails", keys.KeyRails.as_view()),
    path("keys/<int:key_id>/kill", keys.Kill.as_view()),
    path("keys/<int:key_id>/revive", keys.Revive.as_view()),
    path("usage", usage.Usage.as_view()),
    path("usage.csv", usage.UsageCsv.as_view()),
    path("usage/totals", usage.UsageTotals.as_view()),
    path("receipts", usage.Receipts.as_view()),
    path("receipts/<str:month>", usage.ReceiptFile.as_view()),
    path("exports/<str:name>", usage.Export.as_view()),
    path("invoices", billing.Invoices.as_view()),
    path("invoices/<str:number>", billing.Invoice.as_view()),
    path("invoices/<str:number>/<str:format_>", billing.InvoiceFile.as_view()),
    path("credit-notes", billing.CreditNotes.as_view()),
    path("credit-notes/<str:number>", billing.CreditNote.as_view()),
    path("credit-notes/<str:number>/<str:format_>", billing.CreditNoteFile.as_view()),
    path("plan", plans.Plan.as_view()),
    path("plan/allowances", plans.PlanAllowances.as_view()),
    path("plan/running", plans.PlanRunning.as_view()),
    path("plan/preview", plans.PlanPreview.as_view()),
    path("plans", plans.Plans.as_view()),
    path("spending", plans.SpendingChoice.as_view()),
    path("estimate", estimate.Estimate.as_view()),
    path("webhooks", webhooks.WebhookList.as_view()),
    path("webhooks/<uuid:uid>", webhooks.Webhook.as_view()),
    path("webhooks/<uuid:uid>/rotate-secret", webhooks.RotateSecret.as_view()),
    path("webhooks/<uuid:uid>/ping", webhooks.Ping.as_view()),
    path("deliveries", webhooks.Deliveries.as_view()),
    path("deliveries/<uuid:uid>", webhooks.Delivery.as_view()),
    path("deliveries/<uuid:uid>/replay", webhooks.Replay.as_view()),
    path("connections", live.Connections.as_view()),
    path("connections/<str:connection_id>", live.Connection.as_view()),
    path("requests", live.Requests.as_view()),
    path("requests/facets", live.RequestFacets.as_view()),
    path("requests/<str:request_id>", live.Request.as_view()),
    path("status", live.RelayStatus.as_view()),
    path("gaps", live.Gaps.as_view()),
    re_path(r"", pages.Nothing.as_view()),
]
