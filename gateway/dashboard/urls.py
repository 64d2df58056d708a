"""The customers' pages, under `/app/`. A page is a route here, a view in `pages/` and a template;
`navigation.py` shows it as soon as its route exists. A new route needs a row in
`tests/dashboard/test_access.py`."""

from __future__ import annotations

from django.urls import include, path

from gateway.dashboard.pages import (
    alerts,
    estimator,
    home,
    key_rails,
    keys,
    overview,
    receipts,
    start,
    token,
    usage,
    webhooks,
)

app_name = "dashboard"

#: Below `/app/<slug>/`; each view is a `@page`.
TENANT_PAGES = [
    path("", overview.overview, name="overview"),
    path("overview/now", overview.now, name="overview_now"),
    path("overview/month", overview.month, name="overview_month"),
    path("overview/freshness", overview.freshness, name="overview_freshness"),
    path("start/", start.start, name="start"),
    path("keys/", keys.listing, name="keys"),
    path("keys/new", keys.new, name="key_new"),
    path("keys/<int:key_id>/", keys.detail, name="key"),
    path("keys/<int:key_id>/edit", keys.edit, name="key_edit"),
    path("keys/<int:key_id>/rotate", keys.rotate, name="key_rotate"),
    path("keys/<int:key_id>/revoke", keys.revoke, name="key_revoke"),
    path("keys/<int:key_id>/rails", key_rails.rails, name="key_rails"),
    path("keys/<int:key_id>/kill", key_rails.kill, name="key_kill"),
    path("token", token.issue, name="token"),
    path("usage", usage.show, name="usage"),
    path("usage.csv", usage.csv, name="usage-csv"),
    path("usage/cost", usage.cost, name="usage-cost"),
    path("usage/live", usage.live, name="usage-live"),
    path("usage/receipts", receipts.show, name="receipts"),
    path("usage/receipts/verify_receipts.py", receipts.script, name="receipts-script"),
    path("usage/receipts/<str:month>.jsonl", receipts.file, name="receipts-file"),
    path("usage/receipts/<str:month>/check", receipts.check, name="receipts-check"),
    path("estimator", estimator.show, name="estimator"),
    path("estimator/part", estimator.part, name="estimator-part"),
    path("alerts", alerts.show, name="alerts"),
    path("alerts/save", alerts.save, name="alerts-save"),
    path("webhooks", webhooks.show, name="webhooks"),
    path("webhooks/add", webhooks.add, name="webhook-add"),
    path("webhooks/<uuid:uid>", webhooks.endpoint, name="webhook"),
    path("webhooks/<uuid:uid>/update", webhooks.update, name="webhook-update"),
    path("webhooks/<uuid:uid>/turn", webhooks.turn, name="webhook-turn"),
    path("webhooks/<uuid:uid>/rotate", webhooks.rotate, name="webhook-rotate"),
    path("webhooks/<uuid:uid>/ping", webhooks.ping, name="webhook-ping"),
    path("webhooks/<uuid:uid>/log", webhooks.log, name="webhook-log"),
    path("webhooks/deliveries/<uuid:uid>", webhooks.delivery, name="webhook-delivery"),
    path("webhooks/deliveries/<uuid:uid>/replay", webhooks.replay, name="webhook-replay"),
]

urlpatterns = [
    path("", home.home, name="home"),
    path("<slug:slug>/", include(TENANT_PAGES)),
]
