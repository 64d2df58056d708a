"""What an address may still send: read when it trades, told without waiting, kept for pages."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.exchange import address_budget, trace_selectors
from gateway.exchange.address_budget import AddressBudgets
from gateway.exchange.watch import Watcher
from tests.gateway.exchange.test_rails import CANCEL, SIGNER
from tests.gateway.exchange.test_service import OTHER, TRADER, desk, signed_by

LIMITS = {"cumVlm": "357.45", "nRequestsUsed": 231, "nRequestsCap": 10_357, "nRequestsSurplus": 0}
HEADER = b"x-relay-address-budget"


async def test_it_is_read_once_told_with_answers_and_kept_for_pages(
    redis_url: str, settings: Any
) -> None:
    settings.REDIS_CACHE_URL = redis_url
    asked: list[dict[str, Any]] = []
    may_answer = asyncio.Event()

    async def ask(payload: dict[str, Any], slug: str) -> bytes:
        asked.append(payload)
        await may_answer.wait()
        return orjson.dumps(LIMITS)

    budgets = AddressBudgets(redis_url, ask=ask)
    watcher = Watcher(signed_by(SIGNER, OTHER), budgets=budgets)
    async with desk(watcher=watcher) as at:
        first = await at.exchange.serve(CANCEL, TRADER)
        assert HEADER not in dict(first[1])  # nobody waits for it
        may_answer.set()
        while budgets._asking:
            await asyncio.wait(budgets._asking)
        _, headers = await at.exchange.serve(CANCEL, TRADER)
        # With what went through since it was read.
        told = dict(headers)[HEADER].decode()
        assert told.startswith(f"{SIGNER};used=232;cap=10357;left=10125;t=")
        assert asked == [{"type": "userRateLimit", "user": SIGNER}]
    kept = trace_selectors.address_budget(SIGNER.upper().replace("X", "x"))
    assert kept is not None
    assert (kept.used, kept.cap, kept.left, kept.volume) == (231, 10_357, 10_126, "357.45")
    assert trace_selectors.address_budget("0x" + "00" * 20) is None
    await budgets.aclose()


async def test_what_the_exchange_refuses_is_not_asked_for() -> None:
    """Else invented signatures would make reads of 20 times their weight."""
    asked: list[Any] = []

    async def ask(payload: dict[str, Any], slug: str) -> bytes:
        asked.append(payload)
        return b"{}"

    budgets = AddressBudgets("", ask=ask)
    watcher = Watcher(signed_by(SIGNER, OTHER), budgets=budgets)
    async with desk(watcher=watcher) as at:
        at.upstream.reply = b'{"status":"err","response":"No."}'
        await at.exchange.serve(CANCEL, TRADER)
        at.upstream.reply = b'{"status":"ok","response":{"type":"default"}}'
        for _ in range(3):
            await at.exchange.serve(CANCEL, TRADER)
            await asyncio.sleep(0)
        assert len(asked) == 1  # what could not be read is not asked for again at once
        assert budgets.of(SIGNER) is None
    await budgets.aclose()


def test_what_redis_has_may_be_anything() -> None:
    for data in (None, b"", b"{}", b"[1]", b'["a",1,"",1]'):
        assert address_budget.read("0x1", data) is None
