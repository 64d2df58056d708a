"""A Celery worker is killed between sending and writing down: the customer gets it again, with the
same id, and it is delivered."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.db import connection

from tenants.models import Delivery, DeliveryAttempt
from tenants.notices import services, signature
from tests.support.environment import VAR
from tests.support.services import Service, start_process
from tests.tenants.cast import Cast
from tests.tenants.notices.receiver import Receiver

DEADLINE_S = 30.0


def database_url() -> str:
    """The test run's database, for other processes."""
    named = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{named['NAME']}"
    return f"mysql://{named['USER']}:{named['PASSWORD']}@{named['HOST']}:{named['PORT']}/{named['NAME']}"


@contextmanager
def worker(log: Path, *, redis_url: str, die_at: str = "") -> Iterator[subprocess.Popen[bytes]]:
    names = {"DATABASE_URL": database_url(), "RELAY_VAR": str(VAR), "REDIS_URL": redis_url}
    names |= {"DIE_AT": die_at, "CLAIM_S": "1", "RELAY_WEBHOOKS_PRIVATE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        schedule = str(log.with_suffix(".beat"))
        command = [sys.executable, "-m", "tests.tenants.notices.dying_worker", "-s", schedule]
        process = start_process(command, log=log)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def test_killed_between_sending_and_writing_down(
    committed_cast: Cast, receiver: Receiver, redis_server: Service, tmp_path: Path
) -> None:
    shown = services.add_endpoint(tenant=committed_cast.acme, url=receiver.url)
    services.ping(shown.endpoint)
    log, options = tmp_path / "worker.log", {"redis_url": redis_server.url}

    with worker(log, die_at="record", **options) as process:
        assert process.wait(DEADLINE_S) == -9, log.read_text()
    assert len(receiver.received) == 1
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("pending", 1)
    assert not DeliveryAttempt.objects.exists()

    with worker(log, **options):
        deadline_s = time.monotonic() + DEADLINE_S
        while Delivery.objects.get().state != "delivered":
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.05)
    first, second = receiver.received
    assert first.body == second.body
    ids = {request.headers[signature.DELIVERY_HEADER] for request in (first, second)}
    assert ids == {str(delivery.uid)}
    assert Delivery.objects.get().attempts == 2
    assert DeliveryAttempt.objects.count() == 1
    assert shown.secret not in log.read_text()
