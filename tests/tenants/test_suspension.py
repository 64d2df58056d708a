"""A suspension can be announced: it takes effect at the end of its grace, once, unless it was
called off."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from tenants import services, tasks
from tenants.models import APIKey, Tenant
from tests.tenants.cast import Cast
from tests.tenants.people import make_member, owner_of

pytestmark = pytest.mark.django_db
WEEK = timedelta(days=7)


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def announce(tenant: Tenant, now: datetime) -> Tenant:
    return services.schedule_suspension(tenant, at=now + WEEK, reason="unpaid since May", now=now)


def test_nothing_changes_before_and_everything_after(cast: Cast, now: datetime) -> None:
    services.issue_key(tenant=cast.acme, name="bot")
    announce(cast.acme, now)
    before = now + WEEK - timedelta(microseconds=1)
    assert services.suspend_due(now=before) == 0
    assert APIKey.objects.usable(before).count() == 1
    assert services.suspend_due(now=now + WEEK) == 1
    acme = Tenant.objects.get(pk=cast.acme.pk)
    assert (acme.suspended_at, acme.suspension_reason) == (now + WEEK, "unpaid since May")
    assert (acme.suspend_at, acme.suspend_reason) == (None, "")
    assert APIKey.objects.usable(now + WEEK).count() == 0


def test_twice_is_once(cast: Cast, now: datetime) -> None:
    announce(cast.acme, now)
    late = now + WEEK + timedelta(minutes=1)
    assert [services.suspend_due(now=late), services.suspend_due(now=late + WEEK)] == [1, 0]
    assert Tenant.objects.get(pk=cast.acme.pk).suspended_at == late
    entries = LogEntry.objects.get_for_object(cast.acme)
    assert len([entry for entry in entries if "suspended_at" in (entry.changes or {})]) == 1


def test_called_off_is_called_off(cast: Cast, now: datetime) -> None:
    announce(cast.acme, now)
    services.resume_tenant(cast.acme)
    assert services.suspend_due(now=now + WEEK) == 0
    assert not Tenant.objects.get(pk=cast.acme.pk).is_suspended


def test_put_off_and_at_once(cast: Cast, now: datetime) -> None:
    stale = Tenant.objects.get(pk=cast.acme.pk)
    announce(cast.acme, now)
    services.schedule_suspension(stale, at=now + 2 * WEEK, reason="one week more", now=now)
    assert services.suspend_due(now=now + WEEK) == 0
    services.suspend_tenant(stale, reason="fraud", now=now)
    acme = Tenant.objects.get(pk=cast.acme.pk)
    assert (acme.suspension_reason, acme.suspend_at) == ("fraud", None)
    with pytest.raises(ValidationError, match="suspended already"):
        announce(cast.acme, now)


@pytest.mark.parametrize(
    ("days", "reason"), [(0, "unpaid"), (-1, "unpaid"), (91, "unpaid"), (7, " "), (7, "x" * 201)]
)
def test_bad_graces(cast: Cast, now: datetime, days: int, reason: str) -> None:
    with pytest.raises(ValidationError):
        services.schedule_suspension(
            cast.acme, at=now + timedelta(days=days), reason=reason, now=now
        )
    assert Tenant.objects.get(pk=cast.acme.pk).suspend_at is None


def test_who_can_settle_it_is_told_once(
    cast: Cast, now: datetime, django_capture_on_commit_callbacks: Any, monkeypatch: Any
) -> None:
    """Not who only looks at usage."""
    monkeypatch.setattr(tasks.announce_suspension, "delay", tasks.announce_suspension.run)
    owner_of(cast.acme)
    make_member(cast.acme, "fin", "finance")
    make_member(cast.acme, "viewer", "viewer")
    owner_of(cast.other, "cleo")
    with django_capture_on_commit_callbacks(execute=True):
        announce(cast.acme, now)
    assert [mail.to for mail in mail.outbox] == [["ada@example.com"], ["fin@example.com"]]
    assert "unpaid since May" in str(mail.outbox[0].body)
    services.resume_tenant(cast.acme)
    tasks.announce_suspension.run(cast.acme.pk)  # late
    assert len(mail.outbox) == 2


def test_the_database_wants_a_reason_and_not_both(cast: Cast, now: datetime) -> None:
    rows = Tenant.objects.filter(pk=cast.acme.pk)
    for wrong in (
        {"suspend_at": now},
        {"suspend_reason": "why"},
        {"suspend_at": now, "suspend_reason": "why", "suspended_at": now},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(**wrong)


def test_the_admin_announces_and_shows_it(operator: Client, cast: Cast) -> None:
    page = "/admin/tenants/tenant/"
    chosen = {"action": "suspend_later", "_selected_action": [cast.acme.pk]}
    assert b"Announce the suspension" in operator.post(page, chosen).content
    wrong = operator.post(page, {**chosen, "confirmed": "yes", "grace_days": 0, "reason": ""})
    assert wrong.status_code == 200
    right = {**chosen, "confirmed": "yes", "grace_days": 3, "reason": "unpaid"}
    assert operator.post(page, right).status_code == 302
    acme = Tenant.objects.get(pk=cast.acme.pk)
    assert acme.suspend_reason == "unpaid"
    assert timedelta(days=2) < acme.suspend_at - timezone.now() <= timedelta(days=3)
    assert b"suspension announced" in operator.get(page).content
