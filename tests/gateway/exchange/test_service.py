"""`/exchange` from the customer's body to the answer: once, counted once, within the rails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import orjson
import pytest

from gateway.exchange.exposure import Exposure
from gateway.exchange.market import Market
from gateway.exchange.passage import Passage, Passed
from gateway.exchange.service import MAX_UNDER_WAY, Exchange
from gateway.exchange.watch import Recover, Watcher
from gateway.http.errors import HttpError
from tenants.admission.control import AdmissionControl
from tenants.admission.directory import Directory
from tenants.admission.errors import Denied, InvalidKey
from tenants.admission.principal import Principal
from tenants.admission.quotas import Occupancy
from tenants.admission.rails import Rails
from tests.gateway.exchange.faulty import REPLY, Fault, FaultyExchange, faulty_exchange
from tests.gateway.exchange.test_rails import CANCEL, SIGNER, order, placing
from tests.support.services import Service
from tests.tenants.test_directory import principal

TRADER = principal(scopes=frozenset({"exchange"}))
OTHER = "0x" + "cd" * 20


class Meter:
    """Counts as the real one, into a dictionary."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.bytes: Counter[int] = Counter()

    def slot(self, key_id: int, channel: str) -> int:
        assert channel == "exchange"
        return key_id

    def add_requests(self, slot: int, requests: int) -> None:
        self.requests[slot] += requests

    def add(self, slot: int, messages: int, payload_bytes: int) -> None:
        assert messages == 0
        self.bytes[slot] += payload_bytes


class Sender:
    def __init__(self) -> None:
        self.passage = Passage()
        self.may_go: asyncio.Event | None = None

    async def send(
        self,
        urls: Sequence[str],
        body: bytes,
        *,
        principal: Principal,
        weight: int,
        check: Callable[[], None],
    ) -> Passed:
        if self.may_go is not None:
            await self.may_go.wait()
        check()
        return await self.passage.send(urls, body)


@dataclass
class Desk:
    """A service in front of an exchange. What is in `database` is who may trade."""

    upstream: FaultyExchange
    exchange: Exchange
    meter: Meter
    sender: Sender
    database: dict[str, Principal] = field(default_factory=dict)

    async def send(self, body: bytes, as_: Principal = TRADER) -> tuple[int, Any]:
        answer, _ = await self.exchange.serve(body, as_)
        return answer.status, orjson.loads(answer.body)

    async def until_refused(self, *, ever: bool = False) -> str:
        """Send until a rail refuses; `ever`: also after that."""
        async with asyncio.timeout(5.0):  # a second is promised on a machine that is not starved
            while True:
                _, told = await self.send(CANCEL)
                if told["status"] == "err" and not ever:
                    return str(told["response"])
                await asyncio.sleep(0.02)

    async def problem(self, body: bytes, as_: Principal = TRADER) -> tuple[int, Any]:
        with pytest.raises(HttpError) as error:
            await self.exchange.serve(body, as_)
        return error.value.status, orjson.loads(error.value.body)


async def ask(payload: dict[str, Any]) -> bytes:
    """An `/info` with two coins."""
    answers: dict[str, Any] = {
        "meta": {"universe": [{"name": "BTC"}, {"name": "X"}, {"name": "Y"}, {"name": "Z"}]},
        "spotMeta": {"universe": [{"name": "@1", "index": 1}]},
        "perpDexs": [None],
        "allMids": {"BTC": "100000", "ETH": "4000"},
    }
    answers["meta"]["universe"].append({"name": "ETH"})
    return orjson.dumps(answers[payload["type"]])


def signed_by(mainnet: str, testnet: str) -> Recover:
    """Whatever is sent, it is theirs."""
    return lambda _, on_mainnet: mainnet if on_mainnet else testnet


@asynccontextmanager
async def desk(
    *known: Principal,
    redis_url: str = "",
    signers: tuple[str, str] = (SIGNER, OTHER),
    watcher: Watcher | None = None,
) -> AsyncIterator[Desk]:
    database = {one.digest: one for one in known or (TRADER,)}
    control = AdmissionControl(
        Directory(load=lambda digests: {d: database[d] for d in digests if d in database}),
        Occupancy(),
    )
    meter, sender = Meter(), Sender()

    async def exists(address: str, _: Principal) -> bool:
        return address == SIGNER

    async with faulty_exchange() as upstream:
        exchange = Exchange(
            admission=control,
            meter=meter,
            urls=lambda: [upstream.url],
            sender=sender,
            market=Market(ask),
            exposure=Exposure(redis_url, processes=lambda: 1),
            watcher=watcher or Watcher(signed_by(*signers)),
            exists=exists,
        )
        yield Desk(upstream, exchange, meter, sender, database)
        await exchange.aclose()
        await sender.passage.close()
        await control.aclose()


async def test_a_body_passes_and_is_counted() -> None:
    async with desk() as at:
        assert await at.send(CANCEL) == (200, orjson.loads(REPLY))
        assert at.upstream.bodies == [CANCEL]
        assert at.meter.requests == {7: 1}
        assert at.meter.bytes == {7: len(REPLY)}


async def test_what_is_no_action_is_not_sent_and_is_no_use() -> None:
    async with desk() as at:
        status, told = await at.problem(b'{"action":{}}')
        assert (status, told["code"]) == (422, "bad_action")
        assert at.upstream.begun == 0
        assert at.meter.requests == {}


async def test_an_unknown_outcome_is_named_and_counted() -> None:
    async with desk() as at:
        at.upstream.fault = Fault.CLOSE_BEFORE_REPLY
        status, told = await at.problem(CANCEL)
        assert (status, told["error"], told["sent"]) == (504, "outcome_unknown", True)
        assert "orderStatus" in told["msg"]
        assert at.meter.requests == {7: 1}


async def test_who_goes_away_has_sent_once_and_is_counted_once() -> None:
    async with desk() as at:
        at.upstream.fault = Fault.STALL
        going = asyncio.create_task(at.send(CANCEL))
        await at.upstream.is_reached.wait()
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        assert at.meter.requests == {}
        at.upstream.may_answer.set()
        await at.exchange.aclose()
        assert at.upstream.bodies == [CANCEL]
        assert at.meter.requests == {7: 1}


async def test_no_tenant_has_more_than_a_hundred_on_the_way() -> None:
    async with desk() as at:
        at.upstream.fault = Fault.STALL
        held = [asyncio.create_task(at.send(CANCEL)) for _ in range(MAX_UNDER_WAY)]
        while at.upstream.begun < MAX_UNDER_WAY:  # noqa: ASYNC110 - the far side has no event
            await asyncio.sleep(0)
        assert (await at.problem(CANCEL))[0] == 429
        at.upstream.may_answer.set()
        assert {status for status, _ in await asyncio.gather(*held)} == {200}
        assert len(at.upstream.bodies) == MAX_UNDER_WAY


async def test_what_changed_while_an_order_waited_is_looked_at_before_its_first_byte() -> None:
    """A kill, a scope that went, other rails: what was true as it came is not enough."""
    for change, told in (
        ({"rails": Rails(is_killed=True)}, "kill switch"),
        ({"rails": Rails(is_cancel_only=True)}, "changed meanwhile"),
        ({"scopes": frozenset({"ws"})}, "exchange"),
    ):
        async with desk() as at:
            at.sender.may_go = asyncio.Event()
            waiting = asyncio.create_task(at.send(CANCEL))
            while not at.exchange._under_way:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0)
            at.database[TRADER.digest] = replace(TRADER, **change)  # type: ignore[arg-type]
            await at.exchange._admission.revalidate([TRADER.digest])
            at.sender.may_go.set()
            try:
                said = str((await waiting)[1])
            except Denied as denied:
                said = str(denied)
            assert told in said
            assert at.upstream.begun == 0
            assert at.meter.requests == {}


async def test_what_waited_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.service.READY_S", 0.05)
    async with desk() as at:
        at.sender.may_go = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, at.sender.may_go.set)
        status, told = await at.problem(CANCEL)
        assert (status, told["error"], told["sent"]) == (504, "not_sent", False)
        assert at.upstream.begun == 0


async def test_a_fault_of_ours_after_sending_takes_no_answer_away() -> None:
    async with desk() as at:

        def full(key_id: int, channel: str) -> int:
            raise OSError(28, "No space left on device")

        at.meter.slot = full  # type: ignore[method-assign]
        assert await at.send(CANCEL) == (200, orjson.loads(REPLY))
    async with desk() as at:
        at.sender.passage.send = None  # type: ignore[assignment,method-assign]
        status, told = await at.problem(CANCEL)
        assert (status, told["error"], told["sent"]) == (504, "outcome_unknown", True)


async def test_a_process_that_stops_takes_nothing_new_and_ends_what_it_has() -> None:
    async with desk() as at:
        at.upstream.fault = Fault.STALL
        going = asyncio.create_task(at.send(CANCEL))
        await at.upstream.is_reached.wait()
        stopping = asyncio.create_task(at.exchange.drain())
        await asyncio.sleep(0)
        status, told = await at.problem(CANCEL)
        assert (status, told["sent"]) == (504, False)
        at.upstream.may_answer.set()
        await stopping
        assert (await going)[0] == 200
        assert at.upstream.bodies == [CANCEL]


async def test_a_rail_stops_in_the_exchange_s_own_words_and_nothing_is_sent() -> None:
    railed = replace(TRADER, rails=Rails(max_order_usd=Decimal(5_000)))
    async with desk(railed) as at:
        assert (await at.send(placing(order())))[1]["status"] == "ok"
        status, told = await at.send(placing(order(s="2")))
        assert (status, told["status"]) == (200, "err")
        assert "8000.00 USD" in told["response"]
        assert len(at.upstream.bodies) == 1
        assert at.meter.requests == {7: 1}


async def test_the_kill_switch_is_known_within_a_second_though_nobody_announced_it() -> None:
    async with desk() as at:
        assert (await at.send(CANCEL))[1]["status"] == "ok"
        at.database[TRADER.digest] = replace(TRADER, rails=Rails(is_killed=True))
        assert "kill switch" in (await at.until_refused())
        del at.database[TRADER.digest]  # revoked
        with pytest.raises(InvalidKey):
            await at.until_refused(ever=True)


async def test_the_orders_of_a_minute_come_to_no_more_than_the_limit(
    redis_server: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two processes, together."""
    monkeypatch.setattr("gateway.exchange.exposure.DEADLINE_S", 5.0)
    railed = replace(TRADER, family_id=991, rails=Rails(max_minute_usd=Decimal(10_000)))
    url = redis_server.url
    async with desk(railed, redis_url=url) as one, desk(railed, redis_url=url) as two:
        told = await asyncio.gather(*(at.send(placing(order())) for at in (one, two) * 4))
        statuses = Counter(answer["status"] for _, answer in told)
        assert statuses == {"ok": 2, "err": 6}
        assert len(one.upstream.bodies) + len(two.upstream.bodies) == 2


async def test_without_redis_a_process_counts_its_own() -> None:
    railed = replace(TRADER, rails=Rails(max_minute_usd=Decimal(10_000)))
    async with desk(railed, redis_url="redis://127.0.0.1:1/0") as at:
        told = [(await at.send(placing(order())))[1]["status"] for _ in range(4)]
        assert told == ["ok", "ok", "err", "err"]


async def test_a_signature_for_testnet_is_explained() -> None:
    allowed = replace(TRADER, rails=Rails(signers=frozenset({SIGNER})))
    async with desk(allowed, signers=(OTHER, SIGNER)) as at:
        _, told = await at.send(CANCEL)
        assert "MAINNET_API_URL" in told["response"]
        assert at.upstream.begun == 0
    refusal = b'{"status":"err","response":"User or API Wallet 0xdead does not exist."}'
    async with desk(signers=(OTHER, SIGNER)) as at:
        at.upstream.reply = refusal
        _, told = await at.send(CANCEL)
        assert told["response"].startswith("User or API Wallet 0xdead does not exist. (The relay:")
        # Asked once a minute: invented signatures must not make reads of 60 times their weight.
        assert (await at.send(CANCEL))[1] == orjson.loads(refusal)
    async with desk(signers=(SIGNER, OTHER)) as at:  # whom nobody knows on either
        at.upstream.reply = refusal
        assert (await at.send(CANCEL))[1] == orjson.loads(refusal)
