"""Addresses of the documentation, behind `/docs/`."""

from django.urls import path

from gateway.docsite import views

app_name = "docsite"
urlpatterns = [
    path("", views.index, name="index"),
    path("files/<str:name>", views.file, name="file"),
    path("<str:language>/", views.page, name="home"),
    path("<str:language>/search.json", views.search, name="search"),
    path("<str:language>/<path:slug>.md", views.raw, name="raw"),
    path("<str:language>/<path:slug>/", views.page, name="page"),
]
