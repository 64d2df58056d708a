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
from billing.models import CoinHour, CoinRollup, LedgerSeal, Metric, UsageBatch
from tenants import services
from tests.billing.usage import HOUR, ledger
from tests.tenants.cast import make_cast

UNKNOWN = 424_242
COIN_MINUTES = Metric.COIN_MINUTES.value
METRICS = ("messages", "bytes", "requests")
COUNTS = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["bbo", "trades"]),
    st.sampled_from(["BTC", "kPEPE", "KPEPE", ""]),
    st.sampled_from(["", "replay"]),
    st.integers(0, 10**9),
    st.integers(0, 10**12),
    st.integers(0, 3),
)
#: Few, so that both edges tell the same ones.
MARKS = st.tuples(
    st.sampled_from([0, 3]), st.sampled_from(["kPEPE", "KPEPE"]), st.sampled_from([-1, 0, 1, 60])
)
#: Hour, key, metric, channel, coin, reason.
Place = tuple[datetime, int, str, str, str, str]
#: Key, coin, minute since 1970.
Minute = tuple[int, str, int]


def sums_of(batch: Batch) -> Counter[Place]:
    """The same as the ledger's and the coins', made another way."""
    sums: Counter[Place] = Counter()
    for line in batch.lines:
        counts = (line.messages, line.payload_bytes, line.requests)
        for metric, units in zip(METRICS, counts, strict=True):
            sums[batch.hour, line.key_id, metric, line.channel, line.coin, line.reason] += units
    return +sums


def minutes_of(batch: Batch) -> set[Minute]:
    """The minutes of a batch, one by one."""
    return {
        (line.key_id, line.coin, line.hour * 60 + n)
        for line in batch.minutes
        for n in range(60)
        if line.minutes >> n & 1
    }


class LedgerMachine(RuleBasedStateMachine):
    """Two edges that count, a spool, and the database; the clock only goes forward."""

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
        # Of each edge the hour it is in, which is that of what it has not sealed.
        self.hours = [HOUR, HOUR]
        self.meters = [self.new_meter(edge) for edge in range(2)]
        self.counted: Counter[Place] = Counter()
        self.followed: set[Minute] = set()
        self.posted: set[BatchId] = set()
        self.late_seq = itertools.count(1)
        self.sealed: list[tuple[object, ...]] = []

    @property
    def now(self) -> datetime:
        return max(self.hours)

    def new_meter(self, edge: int) -> Meter:
        return Meter.create(self.folder / "meters", now=self.hours[edge], region="here")

    def teardown(self) -> None:
        for meter in self.meters:
            meter.file.delete()
        shutil.rmtree(self.folder)
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @rule(edge=st.integers(0, 1), counts=st.lists(COUNTS, min_size=1, max_size=4))
    def count(self, edge: int, counts: list[tuple[int, str, str, str, int, int, int]]) -> None:
        meter, hour = self.meters[edge], self.hours[edge]
        for place, channel, coin, reason, *units in counts:
            key = self.keys[place]
            slot = meter.slot(key, channel, coin, reason)
            meter.add(slot, units[0], units[1])
            meter.add_requests(slot, units[2])
            for metric, n in zip(METRICS, units, strict=True):
                self.counted[hour, key, metric, channel, coin, reason] += n

    @rule(edge=st.integers(0, 1), marks=st.lists(MARKS, min_size=1, max_size=4))
    def follow(self, edge: int, marks: list[tuple[int, str, int]]) -> None:
        """A coin is followed in minutes of this hour, of the last, and of the next, which begins
        before the last batch of this is sealed."""
        for place, coin, minute in marks:
            at = int(self.hours[edge].timestamp()) // 60 + minute
            self.meters[edge].mark(self.keys[place], coin, at)
            self.followed.add((self.keys[place], coin, at))

    @rule(edge=st.integers(0, 1), hours=st.integers(0, 30))
    def flush(self, edge: int, hours: int) -> None:
        """Seal a batch and, at times, let hours pass: what is counted next belongs to those."""
        now = self.hours[edge] + timedelta(hours=hours)
        self.meters[edge].begin_seal(now)
        settle(self.meters[edge], self.spool)
        self.hours[edge] = now

    @rule(
        order=st.randoms(use_true_random=False), again=st.integers(1, 3), seals_first=st.booleans()
    )
    def ship(self, order: object, again: int, seals_first: bool) -> None:
        """Batches arrive in any order, some of them twice or never, and stay in the spool."""
        if seals_first:
            self.flush(0, 0)
            self.flush(1, 0)
        arriving = self.spool.ids() * again
        order.shuffle(arriving)  # type: ignore[attr-defined]
        for batch_id in arriving[: 1 + len(arriving) // 2]:
            payload = self.spool.read(batch_id)
            assert payload is not None
            assert receive(batch_id, payload.decode()) is (batch_id not in self.posted)
            self.posted.add(batch_id)

    @rule(hours=st.integers(1, 24 * 40), messages=st.integers(1, 10**6), place=st.integers(0, 3))
    def late(self, hours: int, messages: int, place: int) -> None:
        """A batch of long ago, from a machine that was cut off and knew no coins."""
        hour, key = self.now - timedelta(hours=hours), self.keys[place]
        line = UsageLine(key, "bbo", messages, 0, 0)
        batch = Batch(v=1, worker="f" * 32, seq=next(self.late_seq), hour=hour, lines=[line])
        assert [ingest(batch) for _ in range(2)] == [True, False]
        self.posted.add(batch.id)
        self.counted += sums_of(batch)

    @rule(hours=st.integers(0, 2))
    def seal(self, hours: int) -> None:
        self.flush(0, hours)
        chain.seal_ledger(self.now)
        assert chain.seal_ledger(self.now) == 0
        now = list(LedgerSeal.objects.order_by("pk").values_list())
        assert now[: len(self.sealed)] == self.sealed
        self.sealed = now

    @rule(edge=st.integers(0, 1))
    def restart(self, edge: int) -> None:
        """The edge is killed; the next one takes its counters over."""
        self.meters[edge].file.close()
        recover(self.folder / "meters", self.spool, now=self.hours[edge])
        self.meters[edge] = self.new_meter(edge)

    @rule()
    def rebuild(self) -> None:
        rebuild_rollups()

    @invariant()
    def ledger_and_what_is_unflushed_are_what_was_counted(self) -> None:
        batches = [decode(self.spool.read(batch_id) or b"") for batch_id in self.spool.ids()]
        on_its_way = [batch for batch in batches if batch.id not in self.posted]
        arrived = self.counted.copy()
        arrived.subtract(sum(map(sums_of, on_its_way), Counter[Place]()))
        arrived.subtract(self.unsealed())
        by_entry: Counter[tuple[datetime, int, str, str, str]] = Counter()
        by_coin: Counter[tuple[object, ...]] = Counter()
        for (hour, key, metric, channel, coin, reason), units in arrived.items():
            by_entry[hour, key, metric, channel, reason] += units
            if metric != "requests":
                by_coin[hour.date(), key, channel, coin, reason, metric] += units
        entries = ledger()
        minutes = {place: entries.pop(place) for place in list(entries) if place[2] == COIN_MINUTES}
        assert +entries == +by_entry
        assert coins() == +by_coin
        assert UsageBatch.objects.count() == len(self.posted)
        self.check_minutes(on_its_way, minutes)

    def check_minutes(
        self, on_its_way: list[Batch], posted: dict[tuple[datetime, int, str, str, str], int]
    ) -> None:
        """A minute that anybody told is told; one that was not is in a batch or a file."""
        told = {
            (key, coin, int(hour.timestamp()) // 60 + n)
            for key, coin, hour, minutes in CoinHour.objects.values_list(
                "key_id", "coin", "hour", "minutes"
            )
            for n in range(60)
            if minutes >> n & 1
        }
        waiting = set().union(*map(minutes_of, on_its_way), *map(self.unsealed_minutes, range(2)))
        assert told <= self.followed == told | waiting
        hours = Counter((key, minute // 60) for key, _, minute in told)
        assert {
            (key, int(hour.timestamp()) // 3600): n for (hour, key, *_), n in posted.items()
        } == hours

    def unsealed(self) -> Counter[Place]:
        """What only the meter files hold, read by the words of their layout."""
        sums: Counter[Place] = Counter()
        for meter, hour in zip(self.meters, self.hours, strict=True):
            words = meter.file.words
            for (key, channel, coin, reason), slot in meter._slots.items():
                for place, metric in enumerate(METRICS):
                    units = words[slot + place] - words[slot + place + 6]
                    sums[hour, key, metric, channel, coin, reason] += units
        return +sums

    def unsealed_minutes(self, edge: int) -> set[Minute]:
        words = self.meters[edge].file.words
        return {
            (key, coin, words[at + 9] * 60 + n)
            for key, coins_of_key in self.meters[edge]._hours.items()
            for coin, slots in coins_of_key.items()
            for at in slots
            for n in range(60)
            if (words[at] & ~words[at + 6]) >> n & 1
        }

    @invariant()
    def chain_rollups_and_coins_hold(self) -> None:
        # What is on its way is a hole, and may come in any order.
        wrong = [difference for difference in reconcile() if difference.check != "missing batch"]
        assert wrong == []


def coins() -> Counter[tuple[object, ...]]:
    """Units by day, key, channel, coin, reason and metric, as the rollups by coin say."""
    sums: Counter[tuple[object, ...]] = Counter()
    for *place, messages, size in CoinRollup.objects.values_list(
        "day", "key_id", "channel", "coin", "zero_rated", "messages", "bytes"
    ):
        sums[*place, "messages"] += messages
        sums[*place, "bytes"] += size
    return +sums


@pytest.mark.django_db
@pytest.mark.timeout(300)
def test_the_ledger_is_exact_whatever_happens() -> None:
    # Without shrinking, which runs the database for minutes; twenty steps can be read as they are.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    chosen = settings(max_examples=25, stateful_step_count=20, phases=phases)
    run_state_machine_as_test(LedgerMachine, settings=chosen)
