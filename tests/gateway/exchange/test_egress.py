"""Whose action leaves from which address of ours, and what happens when one is spent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from gateway.exchange.egress import Egress, Pool, read_rows
from gateway.exchange.models import EgressAddress
from gateway.exchange.passage import Outcome
from gateway.http.errors import HttpError
from tests.gateway.exchange.test_service import TRADER
from tests.tenants.cast import Cast


class Pot:
    """So much, and no more."""

    def __init__(self, limit: float) -> None:
        self.left = limit

    async def take(self, tenant: str, weight: float) -> float:
        if weight > self.left:
            return 7.0
        self.left -= weight
        return 0.0


@asynccontextmanager
async def pool(*egresses: Egress) -> AsyncIterator[tuple[Pool, str, Counter[str]]]:
    """With a server that counts from where it is asked."""
    seen: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen[writer.get_extra_info("peername")[0]] += 1
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def read() -> list[Egress]:
        return list(egresses)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Pool(read=read, budget_of=lambda egress: Pot(egress.per_minute))
    try:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", seen
    finally:
        await made.aclose()
        server.close()


async def send(made: Pool, url: str, tenant_id: int, times: int = 1) -> Sequence[Outcome]:
    who = replace(TRADER, tenant_id=tenant_id)
    return [(await made.send([url], b"{}", principal=who, weight=1)).outcome for _ in range(times)]


async def test_an_address_of_ones_own_is_nobody_else_s() -> None:
    own, shared = Egress("127.0.0.2", tenant_id=1), Egress("127.0.0.3")
    async with pool(own, shared) as (made, url, seen):
        await send(made, url, 1, 2)
        await send(made, url, 2, 3)
        assert seen == {"127.0.0.2": 2, "127.0.0.3": 3}


async def test_what_is_spent_is_passed_over_and_then_refused_before_anything_is_sent() -> None:
    async with pool(Egress("127.0.0.2", per_minute=2), Egress("127.0.0.3", per_minute=3)) as (
        made,
        url,
        seen,
    ):
        await send(made, url, 4, 5)
        assert seen == {"127.0.0.2": 2, "127.0.0.3": 3}
        with pytest.raises(HttpError) as refused:
            await send(made, url, 4)
        assert refused.value.status == 429
        assert (b"retry-after", b"8") in refused.value.headers
        assert "Nothing was sent" in orjson.loads(refused.value.body)["msg"]
        assert seen.total() == 5


async def test_without_rows_the_kernel_chooses_and_the_budget_holds() -> None:
    async with pool() as (made, url, seen):
        assert await send(made, url, 1, 2) == [Outcome.ANSWERED] * 2
        assert seen == {"127.0.0.1": 2}


@pytest.mark.django_db(transaction=True)
async def test_rows_that_are_enabled_are_read(committed_cast: Cast) -> None:
    await EgressAddress.objects.acreate(address="192.0.2.1", tenant=committed_cast.acme)
    await EgressAddress.objects.acreate(address="192.0.2.2", is_enabled=False)
    await EgressAddress.objects.acreate(address="192.0.2.3", weight_per_minute=600)
    assert await read_rows() == [
        Egress("192.0.2.1", committed_cast.acme.pk),
        Egress("192.0.2.3", None, 600),
    ]
