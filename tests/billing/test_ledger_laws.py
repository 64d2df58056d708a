"""Whatever happens to meters and batches, and in whatever order: the ledger and what is still on
its way add up to what was counted, the chain holds, and the rollups are the ledger's sums.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db import transaction
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing.metering import chain
from billing.metering.batch import Batch, BatchId, UsageLine, decode
from billing.metering.ingest import ingest, receive
from billing.metering.meter import Meter
from billing.metering.reconcile import reconcile
from billing.metering.rollup import rebuild_rollups
from billing.metering.spool import Spool, recover, settle
from billing.models import LedgerSeal, UsageBatch
from tenants import services
from tests.billing.usage import HOUR, ledger
from tests.tenants.cast import make_cast

UNKNOWN = 424_242
METRICS = ("messages", "bytes", "requests")
COUNTS = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["bbo", "trades"]),
    st.integers(0, 10**9),
    st.integers(0, 10**12),
    st.integers(0, 3),
)
Place = tuple[datetime, int, str, str]


def sums_of(batch: Batch) -> Counter[Place]:
    """The same as the ledger's, made another way."""
    sums: Counter[Place] = Counter()
    for key, channel, *counts in (
        (line.key_id, line.channel, line.messages, line.payload_bytes, line.requests)
        for line in batch.lines
    ):
        for metric, units in zip(METRICS, counts, strict=True):
            sums[batch.hour, key, metric, channel] += units
    return +sums


class LedgerMachine(RuleBasedStateMachine):
    """One edge that counts, a spool, and the database; the clock only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        cast = make_cast()
        tenants = (cast.acme, cast.acme, cast.other)
        self.keys = [services.issue_key(tenant=tenant, name="bot").key.pk for tenant in tenants]
        self.keys.append(UNKNOWN)
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.spool = Spool(self.folder / "spool")
        self.now = HOUR
        self.meter = self.new_meter()
        self.counted: Counter[Place] = Counter()
        self.posted: set[BatchId] = set()
        self.late_seq = itertools.count(1)
        self.sealed: list[tuple[object, ...]] = []

    def new_meter(self) -> Meter:
        return Meter.create(self.folder / "meters", now=self.now)

    def teardown(self) -> None:
        self.meter.file.delete()
        shutil.rmtree(self.folder)
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @rule(counts=st.lists(COUNTS, min_size=1, max_size=4))
    def count(self, counts: list[tuple[int, str, int, int, int]]) -> None:
        for place, channel, *units in counts:
            key = self.keys[place]
            slot = self.meter.slot(key, channel)
            self.meter.add(slot, units[0], units[1])
            self.meter.add_requests(slot, units[2])
            for metric, n in zip(METRICS, units, strict=True):
                self.counted[self.now, key, metric, channel] += n

    @rule(hours=st.integers(0, 30))
    def flush(self, hours: int) -> None:
        """Seal a batch and, at times, let hours pass: what is counted next belongs to those."""
        now = self.now + timedelta(hours=hours)
        self.meter.begin_seal(now)
        settle(self.meter, self.spool)
        self.now = now

    @rule(
        order=st.randoms(use_true_random=False), again=st.integers(1, 3), seals_first=st.booleans()
    )
    def ship(self, order: object, again: int, seals_first: bool) -> None:
        """Batches arrive in any order, some of them twice or never, and stay in the spool."""
        if seals_first:
            self.flush(0)
        arriving = self.spool.ids() * again
        order.shuffle(arriving)  # type: ignore[attr-defined]
        for batch_id in arriving[: 1 + len(arriving) // 2]:
            payload = self.spool.read(batch_id)
            assert payload is not None
            assert receive(batch_id, payload.decode()) is (batch_id not in self.posted)
            self.posted.add(batch_id)

    @rule(hours=st.integers(1, 24 * 40), messages=st.integers(1, 10**6), place=st.integers(0, 3))
    def late(self, hours: int, messages: int, place: int) -> None:
        """A batch of long ago, from a machine that was cut off."""
        hour, key = self.now - timedelta(hours=hours), self.keys[place]
        line = UsageLine(key, "bbo", messages, 0, 0)
        batch = Batch(v=1, worker="f" * 32, seq=next(self.late_seq), hour=hour, lines=[line])
        assert [ingest(batch) for _ in range(2)] == [True, False]
        self.posted.add(batch.id)
        self.counted += sums_of(batch)

    @rule(hours=st.integers(0, 2))
    def seal(self, hours: int) -> None:
        self.flush(hours)
        chain.seal_ledger(self.now)
        assert chain.seal_ledger(self.now) == 0
        now = list(LedgerSeal.objects.order_by("pk").values_list())
        assert now[: len(self.sealed)] == self.sealed
        self.sealed = now

    @rule()
    def restart(self) -> None:
        """The edge is killed; the next one takes its counters over."""
        self.meter.file.close()
        recover(self.folder / "meters", self.spool, now=self.now)
        self.meter = self.new_meter()

    @rule()
    def rebuild(self) -> None:
        rebuild_rollups()

    @invariant()
    def ledger_and_what_is_unflushed_are_what_was_counted(self) -> None:
        batches = [decode(self.spool.read(batch_id) or b"") for batch_id in self.spool.ids()]
        on_its_way = sum(
            (sums_of(batch) for batch in batches if batch.id not in self.posted), Counter[Place]()
        )
        assert +(self.counted - ledger()) == +(on_its_way + self.unsealed())
        assert UsageBatch.objects.count() == len(self.posted)

    def unsealed(self) -> Counter[Place]:
        """What only the meter file holds, read by the words of its layout."""
        file, sums = self.meter.file, Counter[Place]()
        for (key, channel), slot in self.meter._slots.items():
            for place, metric in enumerate(METRICS):
                units = file.words[slot + place] - file.words[slot + place + 6]
                sums[self.now, key, metric, channel] += units
        return +sums

    @invariant()
    def chain_and_rollups_hold(self) -> None:
        assert list(reconcile()) == []


@pytest.mark.django_db
@pytest.mark.timeout(300)
def test_the_ledger_is_exact_whatever_happens() -> None:
    # Without shrinking, which runs the database for minutes; twenty steps can be read as they are.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    chosen = settings(max_examples=25, stateful_step_count=20, phases=phases)
    run_state_machine_as_test(LedgerMachine, settings=chosen)
