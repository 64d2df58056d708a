"""What a tenant chose about being told is what happens: at which percentages, and who is mailed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.core.exceptions import ValidationError

from tenants.admission.caps import MICRO, caps_of, standing
from tenants.admission.principal import THRESHOLDS, Allowed, Principal
from tenants.models import AlertChoice, APIKey, Delivery, Tenant
from tenants.notices.kinds import MAILED_TO_MEMBERS
from tenants.people.alerts import alerts_of, choose_alerts
from tenants.people.recipients import recipients
from tenants.people.roles import Role
from tenants.quota_warnings import warn
from tenants.selectors import principals_by_digest
from tenants.services import MAILED_AN_HOUR, issue_key, rotate_key
from tests.tenants.cast import Cast
from tests.tenants.people import make_member, owner_of

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def principal(tenant: Tenant) -> Principal:
    key = issue_key(tenant=tenant, name="bot", daily_quota=1_000).key
    return principals_by_digest([key.digest], now=NOON)[key.digest]


def mailed(tenant: Tenant, threshold: int) -> set[str | None]:
    assert warn(
        tenant.pk, "messages", threshold, used=1, limit=100, resets_at=NOON, period="messages:1"
    )
    rows = Delivery.objects.filter(tenant=tenant, notice__payload__percent=threshold)
    return set(rows.values_list("address", flat=True))


def test_who_chose_nothing_is_told_as_ever(cast: Cast) -> None:
    owner_of(cast.acme)
    assert alerts_of(cast.acme).thresholds == list(THRESHOLDS)
    assert not AlertChoice.objects.exists()
    assert principal(cast.acme).thresholds == THRESHOLDS
    assert mailed(cast.acme, 80) == {"ada@example.com"}


def test_its_own_percentages_are_told_and_no_others(cast: Cast) -> None:
    """Of a key's quota and of the plan's allowances; of nobody else."""
    choose_alerts(cast.acme, thresholds=[90, 50, 300])
    held, others = principal(cast.acme), principal(cast.other)
    allowed = Allowed("messages", "messages", *MONTH, 100, is_hard=False)
    for cap in caps_of(
        Principal(**{name: getattr(held, name) for name in held.__slots__}
                  | {"allowances": (allowed,)}), NOON
    ):  # fmt: skip
        told = [standing(cap, n * cap.units * MICRO // 100).threshold for n in (49, 80, 99, 150)]
        assert told == [0, 50, 90, 100]
        assert standing(cap, 3 * cap.units * MICRO).threshold == 300
    assert others.thresholds == THRESHOLDS


def test_what_is_used_up_is_told_whatever_a_row_says(cast: Cast) -> None:
    """Connections end by it. And a row that is no list takes nobody's key away."""
    choose_alerts(cast.acme, thresholds=[])
    assert principal(cast.acme).thresholds == (100,)
    for nonsense in ([150], "often", [True], [-5], {}):
        AlertChoice.objects.update(thresholds=nonsense)
        assert 100 in principal(cast.acme).thresholds


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"thresholds": [0]}, "0 % is not within 1 and 1000 %."),
        ({"thresholds": [1_001]}, "1001 % is not within 1 and 1000 %."),
        ({"thresholds": range(1, 9)}, "9 percentages; at most 8 are told."),
        ({"mail_kinds": ["invoice.sent"]}, "“invoice.sent” is none of quota.warning"),
        ({"mail_kinds": ["gap.recorded"] * 2}, "“gap.recorded” is named twice."),
        ({"mail_kinds": ["key.rotated"]}, "“key.rotated” is none of quota.warning"),
        ({"mail_roles": ["king"]}, "“king” is none of owner, admin"),
        ({"mail_addresses": ["nobody"]}, "“nobody” is no e-mail address."),
        ({"mail_addresses": ["cleo@example.com"]}, "cleo@example.com is no member's address"),
        ({"mail_addresses": [f"a{n}@example.com" for n in range(21)]}, "21 addresses; at most 20"),
    ],
)
def test_bad_input_changes_nothing_and_says_what(
    cast: Cast, given: dict[str, Any], says: str
) -> None:
    make_member(cast.other, "cleo", Role.OWNER)
    with pytest.raises(ValidationError) as refused:
        choose_alerts(cast.acme, **given)
    ((field, (message,)),) = refused.value.message_dict.items()
    assert field == next(iter(given))
    assert message.startswith(says)
    assert not AlertChoice.objects.exists()


def test_mail_goes_to_the_roles_and_members_that_were_chosen(cast: Cast) -> None:
    owner_of(cast.acme)
    make_member(cast.acme, "fin", Role.FINANCE)
    vera = make_member(cast.acme, "vera", Role.VIEWER)
    choose_alerts(cast.acme, mail_roles=["finance"], mail_addresses=["VERA@example.com"])
    assert mailed(cast.acme, 75) == {"fin@example.com", "vera@example.com"}
    # Whoever can choose must not silence this: a stolen key could.
    assert recipients(cast.acme, "key.rotated") == ("ada@example.com",)
    vera.user.is_active = False
    vera.user.save()
    assert mailed(cast.acme, 80) == {"fin@example.com"}
    # Who has left is told nothing; and when all have, those whose business it is are told again.
    choose_alerts(cast.acme, mail_roles=[])
    assert alerts_of(cast.acme).mail_addresses == ["vera@example.com"]
    assert mailed(cast.acme, 100) == {"ada@example.com"}
    assert recipients(cast.acme, "invoice.sent") == ("ada@example.com",)


def test_a_key_that_rotates_itself_for_ever_fills_no_mailbox(cast: Cast) -> None:
    """Webhooks are told of each, and of other keys everybody is, whatever one of them does."""
    owner_of(cast.acme)
    stolen, other = (issue_key(tenant=cast.acme, name=name).key for name in ("bot", "desk"))
    for _ in range(MAILED_AN_HOUR + 20):
        stolen = rotate_key(stolen, overlap=timedelta(0)).key
    assert cast.acme.notices.filter(kind="key.rotated").count() == MAILED_AN_HOUR + 20
    mails = Delivery.objects.filter(tenant=cast.acme, address="ada@example.com")
    assert mails.count() == MAILED_AN_HOUR
    rotate_key(other, overlap=timedelta(0))
    assert mails.count() == MAILED_AN_HOUR + 1
    APIKey.objects.exclude(rotated_at=None).update(rotated_at=NOON - timedelta(hours=1))
    rotate_key(stolen, overlap=timedelta(0))
    assert mails.count() == MAILED_AN_HOUR + 2


def test_what_is_not_to_be_mailed_is_a_notice_without_mail(cast: Cast) -> None:
    owner_of(cast.acme)
    kept = [kind for kind in MAILED_TO_MEMBERS if kind != "quota.warning"]
    choose_alerts(cast.acme, mail_kinds=kept)
    assert mailed(cast.acme, 75) == set()
    assert cast.acme.notices.get().kind == "quota.warning"
    assert mailed(cast.acme, 100) == {"ada@example.com"}


def test_a_choice_with_a_kind_that_is_none_any_more_can_be_changed(cast: Cast) -> None:
    """`key.rotated` was one: every change of anything else was refused."""
    AlertChoice.objects.create(
        tenant=cast.acme, thresholds=[100], mail_kinds=["key.rotated", "quota.warning"]
    )
    assert alerts_of(cast.acme).mail_kinds == ["quota.warning"]
    choose_alerts(cast.acme, thresholds=[90])
    assert alerts_of(cast.acme).thresholds == [90, 100]


def test_a_choice_is_audited_and_heard_of(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr("tenants.admission.changes.announce", lambda digests: heard.extend(digests))
    key = issue_key(tenant=cast.acme, name="bot").key
    with django_capture_on_commit_callbacks(execute=True):
        choose_alerts(cast.acme, thresholds=[90])
        choose_alerts(cast.acme, thresholds=[95])
    assert key.digest in heard
    entry = LogEntry.objects.filter(content_type__model="alertchoice").latest("pk")
    assert entry.changes["thresholds"] == ["[90, 100]", "[95, 100]"]
