"""Whoever saves an older copy of a tenant does not make it again what it was."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from tenants import services
from tenants.models import Tenant
from tests.tenants.cast import Cast
from tests.tenants.test_plans import INLINES


def form_of(page: str, **fields: Any) -> dict[str, Any]:
    """What a browser posts from a page that was opened."""
    found = re.search(r'name="opened_as" value="([^"]+)"', page)
    assert found is not None
    return {"opened_as": found[1], "slug": "acme", **INLINES, **fields}


def test_a_name_saved_from_an_older_copy_is_refused(cast: Cast) -> None:
    older, newer = (Tenant.objects.get(pk=cast.acme.pk) for _ in range(2))
    newer.kind = Tenant.Kind.INTERNAL
    services.update_tenant(newer)
    older.name = "Acme Two"
    with pytest.raises(ValidationError, match="changed since you opened it"):
        services.update_tenant(older)
    older.refresh_from_db()
    assert (older.name, older.kind) == ("Acme", Tenant.Kind.INTERNAL)
    # Whoever has read it again may, and so may who changed it, as often as they like.
    for tenant, kind in ((older, "demo"), (older, "external"), (older, "external")):
        tenant.name, tenant.kind = "Acme Two", kind
        services.update_tenant(tenant)
    assert Tenant.objects.get(pk=older.pk).kind == "external"


def test_two_staff_with_one_page_are_told(operator: Client, cast: Cast) -> None:
    url = f"/admin/tenants/tenant/{cast.acme.pk}/change/"
    page = operator.get(url).content.decode()
    first = operator.post(url, form_of(page, name="Acme", kind="internal"))
    assert first.status_code == 302
    second = operator.post(url, form_of(page, name="Acme Two", kind="external"))
    assert second.status_code == 200
    assert "changed since you opened it" in second.content.decode()
    tenant = Tenant.objects.get(pk=cast.acme.pk)
    assert (tenant.name, tenant.kind) == ("Acme", "internal")


def test_what_comes_between_the_form_and_the_write_is_told(
    operator: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"/admin/tenants/tenant/{cast.acme.pk}/change/"
    page, update = operator.get(url).content.decode(), services.update_tenant

    def late(mine: Tenant) -> Tenant:
        Tenant.objects.filter(pk=mine.pk).update(kind="demo")
        return update(mine)

    monkeypatch.setattr(services, "update_tenant", late)
    answer = operator.post(url, form_of(page, name="Acme Two", kind="external"), follow=True)
    assert "changed since you opened it" in answer.content.decode()
    assert Tenant.objects.get(pk=cast.acme.pk).name == "Acme"
