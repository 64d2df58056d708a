"""The customers' pages, under `/app/`. A page is a route here, a view in `pages/` and a template;
`navigation.py` shows it as soon as its route exists. A new route needs a row in
`tests/dashboard/test_access.py`."""

from __future__ import annotations

from django.urls import include, path

from gateway.dashboard.pages import (
    alerts,
    estimator,
    home,
    overview,
    receipts,
    token,
    usage,
    webhooks,
)

app_name = "dashboard"

#: Below `/app/<slug>/`; each view is a `@page`.
TENANT_PAGES = [
    path("", overview.overview, name="overview"),
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
