"""The customers' pages, under `/app/`. A page is a route here, a view in `pages/` and a template;
`navigation.py` shows it as soon as its route exists. A new route needs a row in
`tests/dashboard/test_access.py`."""

from __future__ import annotations

from django.urls import include, path

from gateway.dashboard.pages import (
    connections,
    home,
    market,
    overview,
    requests,
    token,
    traces,
)

app_name = "dashboard"

#: Below `/app/<slug>/`; each view is a `@page`.
TENANT_PAGES = [
    path("", overview.overview, name="overview"),
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
]

urlpatterns = [
    path("", home.home, name="home"),
    path("<slug:slug>/", include(TENANT_PAGES)),
]
