"""Operators' pages that are no list of rows."""

from django.contrib import admin
from django.urls import path

from gateway.backoffice import views

app_name = "cockpit"
urlpatterns = [
    path("margin/", admin.site.admin_view(views.margin), name="margin"),
    path("test-mail/", admin.site.admin_view(views.test_mail), name="test_mail"),
]
