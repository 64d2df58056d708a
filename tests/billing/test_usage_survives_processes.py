"""Real processes die between flush and acknowledgement: the ledger is exact all the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import celery
import pytest

from billing.metering import doorbell
from billing.metering import spool as spool_module
from billing.metering.batch import BatchId
from billing.metering.coins import CoinUsage, usage_per_coin
from billing.metering.meter import Meter
from billing.metering.reconcile import reconcile
from billing.metering.rollup import usage_total
from billing.metering.spool import Shipper
from billing.models import UsageBatch
from relay_site.redis_urls import for_celery
from tenants import services
from tests.billing.processes import database_url
from tests.support.environment import VAR
from tests.support.services import Service, start_process, start_redis
from tests.tenants.cast import Cast

DEADLINE_S = 20.0


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something another process brings about."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"{what} not within {DEADLINE_S:g} s"
        time.sleep(0.02)


class Machine:
    """A Redis and Celery workers that can be killed, and the shipper of a living edge."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder
        # Of one hour for all, also where the next one begins between two batches.
        self.first_minute = int(time.time()) // 3600 * 60
        self.redis: Service = start_redis(folder / "redis")
        self.port = int(self.redis.url.rsplit(":", 1)[1].split("/")[0])
        settings.REDIS_QUOTA_URL = self.redis.url
        self.shipper = Shipper(
            Meter.create(folder / "meters", now=datetime.now(UTC)),
            folder / "spool",
            ship=doorbell.ring,
            acknowledged=doorbell.acknowledged,
            call_soon=lambda call: call(),
            interval_s=3_600,
            resend_after_s=0.5,
        )

    @contextmanager
    def worker(self, *, die_at: str = "") -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / "worker.log"
        names = {"DATABASE_URL": database_url(), "RELAY_VAR": str(VAR), "DIE_AT": die_at}
        names |= {"REDIS_URL": self.redis.url}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in names.items():
                patch.setenv(name, value)
            process = start_process([sys.executable, "-m", "tests.billing.faulty_worker"], log=log)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def count(self, key_id: int, messages: int) -> None:
        """Deliver of a coin that is followed in that many minutes, and seal at once."""
        meter = self.shipper.meter
        meter.add(meter.slot(key_id, "trades", "BTC"), messages, 100 * messages)
        for minute in range(messages):
            meter.mark(key_id, "BTC", self.first_minute + minute)
        meter.begin_seal(datetime.now(UTC))
        self.shipper.spool.keep(meter.batch())
        meter.finish_seal()

    def stop(self) -> None:
        self.shipper.stop(final=False)
        self.redis.stop()


@pytest.fixture
def machine(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, committed_cast: Cast
) -> Iterator[Machine]:
    monkeypatch.setattr(spool_module, "ACK_CHECK_S", 0.05)
    monkeypatch.setattr(spool_module, "RESEND_AT_MOST_S", 0.5)
    monkeypatch.setattr(spool_module, "BROKER_PAUSE_S", 0.1)
    made = Machine(tmp_path, settings)
    url = for_celery(made.redis.url)
    monkeypatch.setattr(celery.current_app.conf, "broker_write_url", url)
    yield made
    made.stop()


def test_celery_killed_before_commit_and_before_acknowledging_and_redis_killed_with_all_it_held(
    machine: Machine, committed_cast: Cast
) -> None:
    acme = committed_cast.acme
    key_id = services.issue_key(tenant=acme, name="bot").key.pk
    spool = machine.shipper.spool
    period = {
        "tenant_id": acme.pk,
        "start": datetime(2020, 1, 1, tzinfo=UTC),
        "end": datetime(2100, 1, 1, tzinfo=UTC),
    }

    def messages() -> int:
        return usage_total(**period).get("messages", 0)

    machine.count(key_id, 3)
    machine.shipper.start()

    with machine.worker(die_at="before-commit") as worker:
        assert worker.wait(DEADLINE_S) == -9
    assert messages() == 0
    assert not UsageBatch.objects.exists()

    with machine.worker(die_at="before-acknowledge") as worker:
        assert worker.wait(DEADLINE_S) == -9
    assert messages() == 3
    assert len(spool.ids()) == 1  # the edge has not heard, so it goes on sending

    # Redis dies with the queue, the acknowledgements and everything else; one more batch meanwhile.
    machine.redis.kill()
    machine.count(key_id, 4)
    machine.redis = start_redis(machine.folder / "again", port=machine.port)

    with machine.worker():
        until(lambda: spool.ids() == [], "the empty spool")
    assert messages() == 7
    # The minutes of the second batch are those of the first, and one more.
    assert usage_total(**period) == {"messages": 7, "bytes": 700, "coin_minutes": 4}
    (by_coin,) = usage_per_coin(tenant_id=acme.pk, start=date(2020, 1, 1), end=date(2100, 1, 1))
    assert by_coin == CoinUsage("BTC", "trades", "", 7, 700)
    assert list(reconcile()) == []
    assert UsageBatch.objects.count() == 2
    assert "hlr_live_" not in (machine.folder / "worker.log").read_text()


def test_a_broker_that_is_down_holds_nobody_up(machine: Machine) -> None:
    machine.redis.kill()
    before_s = time.monotonic()
    with pytest.raises(Exception, match=r"refused|111"):
        doorbell.ring(BatchId("0" * 32, 1), b"{}")
    assert time.monotonic() - before_s < 8
