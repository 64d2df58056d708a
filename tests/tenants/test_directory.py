"""Keys are looked up in the process, in Redis, in the database; each covers for the next."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.admission import directory as directory_module
from tenants.admission.directory import NEGATIVE_TTL_S, TTL_S, Directory
from tenants.admission.errors import Unavailable
from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate
from tenants.admission.principal import Allowed, Limits, Principal
from tenants.admission.store import (
    FRESH_S,
    Entry,
    Found,
    RedisStore,
    decode_entry,
    encode_entry,
)
from tests.support.services import start_redis


def principal(digest: str = "d" * 64, **changes: Any) -> Principal:
    made = Principal(
        tenant_id=1,
        tenant_slug="acme",
        key_id=7,
        key_prefix="hlr_live_abc",
        environment=Environment.LIVE,
        plan_code="small",
        scopes=frozenset({"ws"}),
        limits=Limits(2, 10),
        expires_at=None,
        digest=digest,
    )
    return replace(made, **changes)


WORDS = st.none() | st.frozensets(st.text(), max_size=3)


class FakeClock:
    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


class FakeDatabase:
    """Keys by digest, how often it was asked, and ways to break."""

    def __init__(self) -> None:
        self.keys: dict[str, Principal] = {}
        self.asked: Counter[str] = Counter()
        self.is_down = False
        self.is_asked = threading.Event()
        self.gate: threading.Event | None = None

    def __call__(self, digests: Collection[str]) -> Mapping[str, Principal]:
        self.asked.update(digests)
        answer = {digest: self.keys[digest] for digest in digests if digest in self.keys}
        gate = self.gate
        self.is_asked.set()
        if gate is not None:
            gate.wait(20)
        if self.is_down:
            raise OSError("the database is down")
        return answer


class House:
    """A directory on fakes, and as many more of the same relay as a test wants."""

    def __init__(self, url: str | None) -> None:
        self.clock = FakeClock()
        self.database = FakeDatabase()
        self.url = url
        self._open: list[Directory | RedisStore] = []
        self.directory = self.another()

    def another(self, **options: Any) -> Directory:
        store = RedisStore(self.url) if self.url else None
        made = Directory(load=self.database, store=store, monotonic=self.clock, **options)
        self._open += [made, store] if store else [made]
        return made

    def age_entry(self, digest: str, age_s: float) -> None:
        """What Redis holds of `digest` becomes older, as if its clock had gone on."""
        client = redis.Redis.from_url(self.url or "")
        data = client.get(f"relay:key:{digest}")
        assert isinstance(data, bytes)
        client.set(f"relay:key:{digest}", b"%013d" % (int(data[:13]) - age_s * 1000) + data[13:])

    async def aclose(self) -> None:
        for thing in self._open:
            await thing.aclose()


@pytest.fixture
async def alone() -> Any:
    house = House(None)
    yield house
    await house.aclose()


@pytest.fixture
async def shared(redis_url: str) -> Any:
    redis.Redis.from_url(redis_url).flushdb()
    house = House(redis_url)
    yield house
    await house.aclose()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Any]:
    server = start_redis(tmp_path / "redis")
    yield server
    server.stop()


DIGEST = "d" * 64


async def test_a_known_key_is_asked_for_once_in_thirty_seconds(alone: House) -> None:
    alone.database.keys[DIGEST] = principal()
    assert alone.directory.cached(DIGEST) is None
    for _ in range(3):
        assert await alone.directory.find(DIGEST) == principal()
    assert alone.directory.cached(DIGEST) == principal()
    assert alone.database.asked[DIGEST] == 1

    alone.clock.s += TTL_S
    assert alone.directory.cached(DIGEST) is None
    await alone.directory.find(DIGEST)
    assert alone.database.asked[DIGEST] == 2


async def test_an_unknown_key_is_asked_for_once_in_five_seconds(alone: House) -> None:
    assert await alone.directory.find(DIGEST) is None
    assert await alone.directory.find(DIGEST) is None
    assert alone.database.asked[DIGEST] == 1
    alone.clock.s += NEGATIVE_TTL_S
    alone.database.keys[DIGEST] = principal()
    assert await alone.directory.find(DIGEST) == principal()


async def test_a_thousand_handshakes_with_one_key_ask_once(alone: House) -> None:
    alone.database.keys[DIGEST] = principal()
    answers = await asyncio.gather(*(alone.directory.find(DIGEST) for _ in range(1_000)))
    assert set(answers) == {principal()}
    assert alone.database.asked[DIGEST] == 1


async def test_one_who_hangs_up_does_not_cancel_the_others(alone: House) -> None:
    alone.database.keys[DIGEST] = principal()
    alone.database.gate = threading.Event()
    first = asyncio.create_task(alone.directory.find(DIGEST))
    second = asyncio.create_task(alone.directory.find(DIGEST))
    await asyncio.sleep(0)
    first.cancel()
    alone.database.gate.set()
    assert await second == principal()


async def test_the_cache_is_bounded(alone: House) -> None:
    small = alone.another(max_entries=10)
    for number in range(100):
        await small.find(f"{number:064d}")
    assert not small.holds(f"{0:064d}")
    assert sum(small.holds(f"{number:064d}") for number in range(100)) == 10


async def test_processes_share_through_redis(shared: House) -> None:
    shared.database.keys[DIGEST] = principal()
    await shared.directory.find(DIGEST)
    assert await shared.another().find(DIGEST) == principal()
    assert shared.database.asked[DIGEST] == 1

    shared.age_entry(DIGEST, FRESH_S)
    await shared.another().find(DIGEST)
    assert shared.database.asked[DIGEST] == 2


async def test_what_redis_said_is_believed_for_the_rest_of_its_time(shared: House) -> None:
    shared.database.keys[DIGEST] = principal()
    await shared.directory.find(DIGEST)
    shared.age_entry(DIGEST, FRESH_S - 10)
    other = shared.another()
    await other.find(DIGEST)
    shared.clock.s += 9
    assert other.cached(DIGEST) == principal()
    shared.clock.s += 1
    assert other.cached(DIGEST) is None
    assert shared.database.asked[DIGEST] == 1


@pytest.mark.parametrize("ahead_s", [3_600, -3_600])
async def test_no_hosts_clock_is_asked(
    shared: House, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """What a host an hour ahead wrote outranks no revocation, and is as old as it is."""
    shared.database.keys[DIGEST] = principal()
    real = time.time
    with monkeypatch.context() as there:
        there.setattr(time, "time", lambda: real() + ahead_s)
        await shared.directory.find(DIGEST)
    store = RedisStore(shared.url or "")
    found = await store.get([DIGEST])
    assert 0 <= found.now_ms - found.entries[DIGEST].read_at_ms < 5_000
    await store.put({DIGEST: Entry(None, found.now_ms)})
    assert (await store.get([DIGEST])).entries[DIGEST].principal is None
    await store.aclose()


async def test_an_entry_from_the_future_is_asked_again(shared: House) -> None:
    shared.database.keys[DIGEST] = principal()
    await shared.directory.find(DIGEST)
    shared.age_entry(DIGEST, -60)
    await shared.another().find(DIGEST)
    assert shared.database.asked[DIGEST] == 2


async def test_unknown_keys_do_not_fill_redis(shared: House) -> None:
    for number in range(20):
        await shared.directory.find(f"{number:064d}")
    assert redis.Redis.from_url(shared.url or "").dbsize() == 0


async def test_what_is_in_redis_holds_no_raw_key_and_belongs_to_its_digest(shared: House) -> None:
    shared.database.keys[DIGEST] = principal()
    await shared.directory.find(DIGEST)
    client = redis.Redis.from_url(shared.url or "")
    # An entry copied under another digest must open nothing.
    client.set("relay:key:" + "e" * 64, client.get(f"relay:key:{DIGEST}"))
    assert await shared.another().find("e" * 64) is None


async def test_garbage_in_redis_is_no_answer(shared: House) -> None:
    client = redis.Redis.from_url(shared.url or "")
    shared.database.keys[DIGEST] = principal()
    for garbage in (b"", b"x", b"\x80\x04pickle", b"1" * 13 + b"{}", b"1" * 13 + b'{"v":1}'):
        client.set(f"relay:key:{DIGEST}", garbage)
        assert await shared.another().find(DIGEST) == principal()


async def test_redis_down_asks_the_database(own_redis: Any) -> None:
    house = House(own_redis.url)
    house.database.keys[DIGEST] = principal()
    own_redis.kill()
    assert await house.directory.find(DIGEST) == principal()
    house.clock.s += TTL_S
    assert await house.directory.revalidate([DIGEST]) == {DIGEST: principal()}
    await house.aclose()


async def test_with_the_database_down_known_keys_work_and_unknown_ones_are_told(
    shared: House,
) -> None:
    shared.database.keys[DIGEST] = principal()
    await shared.directory.find(DIGEST)
    shared.database.is_down = True
    shared.clock.s += TTL_S
    shared.age_entry(DIGEST, 3_500)

    assert await shared.directory.find(DIGEST) == principal()
    assert await shared.another().find(DIGEST) == principal()
    assert await shared.another().revalidate([DIGEST, "e" * 64]) == {DIGEST: principal()}
    with pytest.raises(Unavailable):
        await shared.directory.find("e" * 64)


async def test_with_both_down_this_process_still_knows_its_keys(alone: House) -> None:
    alone.database.keys[DIGEST] = principal()
    await alone.directory.find(DIGEST)
    alone.database.is_down = True
    alone.clock.s += 3_600
    assert await alone.directory.find(DIGEST) == principal()
    # Nobody can tell, so nobody is thrown out.
    assert await alone.directory.revalidate([DIGEST]) == {}


async def test_a_database_that_hangs_is_one_that_is_down(
    alone: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "DATABASE_DEADLINE_S", 0.05)
    alone.database.gate = threading.Event()
    try:
        # More than there are threads: the later ones wait in line, and not for ever.
        for number in range(8):
            with pytest.raises(Unavailable):
                await alone.directory.find(f"{number:064d}")
    finally:
        alone.database.gate.set()


async def test_a_slow_old_answer_does_not_undo_a_revocation(alone: House) -> None:
    alone.database.keys[DIGEST] = principal()
    alone.database.gate = gate = threading.Event()
    slow = asyncio.create_task(alone.directory.find(DIGEST))
    assert await asyncio.to_thread(alone.database.is_asked.wait, 10)
    alone.database.gate = None
    del alone.database.keys[DIGEST]
    alone.clock.s += 0.1
    assert await alone.directory.revalidate([DIGEST]) == {DIGEST: None}
    gate.set()
    assert await slow is None
    assert alone.directory.cached(DIGEST) is None


async def test_in_redis_the_later_read_wins(redis_url: str) -> None:
    redis.Redis.from_url(redis_url).flushdb()
    store = RedisStore(redis_url)
    held = TwinStore(FakeClock())
    # And "opens nothing" wins against what is as new, or newer.
    for entry in (
        Entry(None, 2_000),
        Entry(principal(), 1_999),
        Entry(principal(), 2_000),
        Entry(principal(), 2_001),
        Entry(principal(plan_code="large"), 2_001),
        Entry(principal(), 2_000),
        Entry(None, 1_000),
        Entry(principal(), 2_000),
    ):
        await store.put({DIGEST: entry})
        await held.put({DIGEST: entry})
        assert (await store.get([DIGEST, "e" * 64])).entries == held.entries
    assert held.entries == {DIGEST: Entry(principal(), 2_000)}
    await store.aclose()


class TwinStore:
    """What Redis does with entries, on a clock that a test moves."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.entries: dict[str, Entry] = {}
        self.is_down = False

    async def get(self, digests: Collection[str]) -> Found:
        if self.is_down:
            raise OSError("Redis is down")
        found = {digest: self.entries[digest] for digest in digests if digest in self.entries}
        return Found(found, int(self.clock() * 1000))

    async def put(self, entries: Mapping[str, Entry]) -> None:
        if self.is_down:
            raise OSError("Redis is down")
        for digest, entry in entries.items():
            old = self.entries.get(digest)
            if old and entry.principal:
                later = old.read_at_ms > entry.read_at_ms
                tied = old.read_at_ms == entry.read_at_ms and old.principal is None
                if later or tied:
                    continue
            self.entries[digest] = entry


@settings(max_examples=60, deadline=None)
@given(
    redis_ahead_s=st.sampled_from([0.0, 3_600.0, -3_600.0]),
    chance=st.randoms(use_true_random=False),
    revoked_s=st.floats(0, 60),
)
def test_after_a_lost_announcement_a_key_opens_nothing_after_thirty_seconds(
    redis_ahead_s: float, chance: random.Random, revoked_s: float
) -> None:
    """However processes hand on what they know: of Redis, of each other's clocks. Redis falters
    when it is told of the revocation, and now and then."""

    async def run() -> None:
        clock = FakeClock()
        begin_s = clock.s
        database = FakeDatabase()
        database.keys[DIGEST] = principal()
        store = TwinStore(lambda: 10_000_000 + clock.s + redis_ahead_s)

        def process(n: int) -> Directory:
            # Monotonic clocks of hosts have nothing to do with each other.
            return Directory(
                load=database, store=store, monotonic=lambda: clock.s + 3_600 * (n - 2)
            )

        processes = [process(n) for n in range(4)]
        try:
            for at_s in sorted(chance.uniform(0, 130) for _ in range(150)):
                clock.s = begin_s + at_s
                if at_s >= revoked_s:
                    database.keys.clear()
                n, store.is_down = chance.randrange(4), chance.random() < 0.05
                found = await processes[n].find(DIGEST)
                # Redis's stamps are whole milliseconds.
                assert found is None or at_s < revoked_s + 30.002, (n, at_s)
                assert found is not None or at_s >= revoked_s
        finally:
            for directory in processes:
                await directory.aclose()

    asyncio.run(run())


async def test_revalidation_repairs_what_redis_believes(shared: House) -> None:
    shared.database.keys[DIGEST] = principal()
    await shared.directory.find(DIGEST)
    del shared.database.keys[DIGEST]
    await shared.directory.revalidate([DIGEST])
    assert await shared.another().find(DIGEST) is None


@given(
    read_at_ms=st.integers(0, 10**13 - 1),
    changes=st.fixed_dictionaries(
        {
            "expires_at": st.datetimes() | st.none(),
            "scopes": st.frozensets(st.sampled_from("abc")),
            "family_id": st.integers(0, 2**63 - 1),
            "networks": st.lists(
                st.ip_addresses().map(lambda address: ip_network(address)), max_size=3
            ).map(tuple),
            "origins": st.frozensets(st.sampled_from(["https://a.example", "https://b.example"])),
            "rate": st.none() | st.builds(Rate, st.integers(1, 10**6), st.integers(1, 10**6)),
            "limits": st.builds(
                Limits,
                st.integers(0, 9),
                st.integers(0, 9),
                st.floats(1, 60),
                max_coins=st.none() | st.integers(0, 9),
                max_users=st.none() | st.integers(0, 9),
                rate=st.none() | st.builds(Rate, st.integers(1, 10**6), st.integers(1, 10**6)),
                retention_hours=st.none() | st.integers(0, 9),
                products=WORDS,
                channels=WORDS,
                regions=WORDS,
            ),
            "daily_quota": st.none() | st.integers(1, 10**12),
            "monthly_quota": st.none() | st.integers(1, 10**12),
            "allowances": st.lists(
                st.builds(
                    Allowed,
                    st.text(),
                    st.just("messages"),
                    st.datetimes(timezones=st.just(UTC)),
                    st.datetimes(timezones=st.just(UTC)),
                    st.integers(0, 10**15),
                    st.booleans(),
                    st.lists(st.text()).map(tuple),
                    st.lists(st.tuples(st.text(), st.just("0.25"))).map(tuple),
                ),
                max_size=3,
            ).map(tuple),
            "thresholds": st.lists(st.integers(1, 1_000)).map(tuple),
        }
    ),
)
def test_decode_inverts_encode(read_at_ms: int, changes: dict[str, Any]) -> None:
    entry = Entry(principal(**changes), read_at_ms)
    assert decode_entry(encode_entry(entry)) == entry
    assert decode_entry(encode_entry(Entry(None, read_at_ms))) == Entry(None, read_at_ms)


@given(st.binary())
def test_any_bytes_can_be_decoded(data: bytes) -> None:
    decode_entry(data)


def test_a_principal_shows_no_digest() -> None:
    assert DIGEST not in repr(principal())
