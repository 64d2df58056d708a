"""The customers' pages, under `/app/`. A page is a route here, a view in `pages/` and a template;
`navigation.py` shows it as soon as its route exists. A new route needs a row in
`tests/dashboard/test_access.py`."""

from __future__ import annotations

from django.urls import include, path

from gateway.dashboard.pages import home, key_rails, keys, overview, start, token

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
]

urlpatterns = [
    path("", home.home, name="home"),
    path("<slug:slug>/", include(TENANT_PAGES)),
]
