"""What programs read is the same whoever reads the mails: webhooks, and the relay's own notices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import translation

from streaming.ws.plan import allowance_fields
from tenants import services as tenants
from tenants.admission.caps import Cap, Standing
from tenants.models import Notice
from tenants.notices import services, webhooks
from tests.tenants.cast import Cast
from tests.tenants.mailed import CHINESE, reads
from tests.tenants.notices.receiver import Receiver
from tests.tenants.people import owner_of

REASON = "the bank refused it"
FAILED = {
    "number": "INV-7", "amount": "12.50", "currency": "USD", "reason": REASON,
    "next_attempt_at": "",
}  # fmt: skip


@pytest.mark.django_db
def test_a_webhook_is_english_for_an_owner_who_reads_chinese(
    cast: Cast, receiver: Receiver
) -> None:
    """Made and sent while Chinese is active, as in a request of the owner's."""
    reads(owner_of(cast.acme).user, CHINESE)
    endpoint = services.add_endpoint(tenant=cast.acme, url=receiver.url).endpoint
    with translation.override(CHINESE):
        key = tenants.issue_key(tenant=cast.acme, name="bot").key
        tenants.rotate_key(key, overlap=timedelta(hours=1))
        services.notify(tenant=cast.acme, kind="payment.failed", payload=FAILED, dedupe="x", to=())
        while webhooks.send_due():
            pass
        chinese = {notice.kind: webhooks.body_of(notice) for notice in Notice.objects.all()}
    english = {notice.kind: webhooks.body_of(notice) for notice in Notice.objects.all()}
    bodies = {json.loads(request.body)["kind"]: request.body for request in receiver.received}
    assert bodies == english == chinese
    assert set(bodies) == {"key.rotated", "payment.failed"}
    assert all(body.isascii() for body in bodies.values())
    assert json.loads(bodies["payment.failed"])["data"]["reason"] == REASON
    with translation.override(CHINESE):
        services.disable_endpoint(endpoint)
    assert Notice.objects.get(kind="webhook.disabled").payload["reason"] == "by an operator"


def test_a_notice_on_the_socket_is_english() -> None:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    cap: Any = Cap(
        name="m", tenant_id=1, code="messages", units=1_000, starts_at=at, ends_at=at,
        is_hard=True, metrics=("messages",),
    )  # fmt: skip
    standing = Standing(cap=cap, used=750, threshold=75)
    english = allowance_fields(standing)
    with translation.override(CHINESE):
        assert allowance_fields(standing) == english
    assert english["msg"].isascii()


def test_the_data_plane_knows_no_languages() -> None:
    for path in sorted((Path(settings.BASE_DIR) / "streaming").rglob("*.py")):
        assert "utils.translation" not in path.read_text("utf-8"), path
