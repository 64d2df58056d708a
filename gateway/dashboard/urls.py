"""The customers' pages, under `/app/`. A page is a route here, a view in `pages/` and a template;
`navigation.py` shows it as soon as its route exists. A new route needs a row in
`tests/dashboard/test_access.py`."""

from __future__ import annotations

from django.urls import include, path

from gateway.dashboard.money_urls import MONEY_PAGES
from gateway.dashboard.pages import home, looking, overview, token

app_name = "dashboard"

#: Below `/app/<slug>/`; each view is a `@page`.
TENANT_PAGES = [
    path("", overview.overview, name="overview"),
    path("token", token.issue, name="token"),
    *MONEY_PAGES,
]

urlpatterns = [
    path("", home.home, name="home"),
    path("end-view/", looking.end, name="end_view"),
    path("<slug:slug>/", include(TENANT_PAGES)),
]
