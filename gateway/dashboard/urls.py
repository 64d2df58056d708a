"""The customers' pages, under `/app/`. A page is a route here, a view in `pages/` and a template;
`navigation.py` shows it as soon as its route exists. A new route needs a row in
`tests/dashboard/test_access.py`."""

from __future__ import annotations

from django.urls import include, path

from gateway.dashboard.money_urls import MONEY_PAGES
from gateway.dashboard.pages import (
    alerts,
    connections,
    estimator,
    home,
    key_rails,
    keys,
    looking,
    market,
    overview,
    receipts,
    requests,
    start,
    token,
    traces,
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
    path("market", market.market, name="market"),
    path("connections", connections.connections, name="connections"),
    path("connections/part", connections.part, name="connections_part"),
    path("connections/<str:connection_id>", connections.connection, name="connection"),
    path("connections/<str:connection_id>/end", connections.disconnect, name="disconnect"),
    path("requests", requests.requests, name="requests"),
    path("requests/<str:request_id>", requests.request_page, name="request"),
    path("traces", traces.traces, name="traces"),
    path("traces/<str:trace_id>", traces.trace, name="trace"),
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
    path("alerts/told", alerts.choose, name="alerts-told"),
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
    *MONEY_PAGES,
]

urlpatterns = [
    path("", home.home, name="home"),
    # With a sign that no short name has: a customer may be called "end-view".
    path("~end-view/", looking.end, name="end_view"),
    path("<slug:slug>/", include(TENANT_PAGES)),
]
