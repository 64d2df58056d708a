"""Addresses of the status page, behind `/status/`."""

from django.urls import path

from gateway.operations import views

app_name = "operations"
urlpatterns = [
    path("", views.page, name="status"),
    path("gaps/", views.gaps, name="gaps"),
    path("feed.atom", views.IncidentFeed(), name="feed"),
]
