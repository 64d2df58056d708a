"""What Django serves beside the operators' site and customers' pages: health and metrics."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import AsyncClient, Client

from relay_site import health
from relay_site.metrics import may_read


def test_livez() -> None:
    """The process answers."""
    assert Client().get("/livez").content == b"ok\n"


@pytest.mark.django_db
async def test_readyz_names_what_is_wrong(
    redis_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 when all is well, else 503 with the check's own line; a broken check does not hide."""
    settings.REDIS_BUS_URL = redis_url

    async def fine() -> str | None:
        return None

    async def stale() -> str | None:
        return "no block for 12 s"

    async def broken() -> str | None:
        raise RuntimeError("postgres://user:secret@host")

    monkeypatch.setattr(health, "_checks", {"data": fine})
    well = await AsyncClient().get("/readyz")
    assert well.json() == {
        "ready": True,
        "checks": dict.fromkeys(("database", "redis", "data"), "ok"),
    }
    assert well.status_code == 200
    monkeypatch.setattr(health, "_checks", {"data": stale, "broken": broken})
    settings.REDIS_BUS_URL = "redis://127.0.0.1:1/0"
    ill = await AsyncClient().get("/readyz")
    assert ill.status_code == 503
    assert ill.json()["checks"] == {
        "database": "ok",
        "redis": "unavailable",
        "data": "no block for 12 s",
        "broken": "unavailable",
    }
    assert "secret" not in ill.content.decode()


@pytest.mark.parametrize(
    ("peer", "allow", "may"),
    [
        ("127.0.0.1", [], True),
        ("::1", [], True),
        ("::ffff:127.0.0.1", [], True),
        ("192.0.2.7", [], False),
        ("192.0.2.7", ["192.0.2.0/24"], True),
        ("192.0.2.7", ["198.51.100.0/24"], False),
        ("", [], False),
        ("unknown", ["0.0.0.0/0"], False),
    ],
)
def test_who_may_read_metrics(peer: str, allow: list[str], may: bool) -> None:
    """Loopback always; others when listed."""
    assert may_read(peer, allow=allow) is may


def test_metrics_are_not_for_the_world() -> None:
    """From loopback yes; through a proxy, or from elsewhere, there is no such page."""
    assert b"python_info" in Client().get("/metrics").content
    assert Client(REMOTE_ADDR="192.0.2.7").get("/metrics").status_code == 404
    assert Client(headers={"X-Forwarded-For": "127.0.0.1"}).get("/metrics").status_code == 404


@pytest.mark.django_db
def test_operators_site_opens(admin_client: Client) -> None:
    """Index and the pages of Django's own models, in the theme."""
    for path in ("/admin/", "/admin/auth/user/", "/admin/auth/group/", "/admin/auditlog/logentry/"):
        assert admin_client.get(path).status_code == 200, path
    assert admin_client.get("/admin/auditlog/logentry/add/").status_code == 403
