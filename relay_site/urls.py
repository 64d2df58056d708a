"""What Django serves: the operators' site, the landing page and what watches a process."""

from __future__ import annotations

from contextlib import nullcontext

from allauth.account.views import signup
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from billing.payments import webhook
from gateway import landing
from gateway.dashboard.pages.race import race
from gateway.docsite import views as docs
from gateway.operations import views as status
from relay_site import health, metrics
from tenants.people import views as people


def whole_signup(request: HttpRequest) -> HttpResponse:
    """A user, a tenant and its owner, or none of them."""
    with transaction.atomic() if request.method == "POST" else nullcontext():
        return signup(request)


urlpatterns = [
    path("", landing.page, name="landing"),
    path("app/", include("gateway.dashboard.urls")),
    path("race/", race, name="race"),
    path("language/", people.switch_language, name="set_language"),
    path("admin/cockpit/", include("gateway.backoffice.urls")),
    path("admin/", admin.site.urls),
    path("accounts/signup/", whole_signup, name="account_signup"),
    path("accounts/", include("allauth.urls")),
    path("invitations/", people.invitation, name="invitation"),
    path("invitations/<str:token>", people.follow_link, name="invitation_link"),
    path("webhooks/<slug:name>/", webhook.receive, name="payment_webhook"),
    path("v1/", include("gateway.api.urls")),
    path("docs/", include("gateway.docsite.urls")),
    path("llms.txt", docs.llms, name="llms"),
    path("llms-full.txt", docs.llms_full, name="llms_full"),
    path("status/", include("gateway.operations.urls")),
    path("status.json", status.as_json, name="status_json"),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics_view),
]
