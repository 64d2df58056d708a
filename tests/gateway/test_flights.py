"""Who asks the same at the same time waits for one, and no tenant has all the places."""

from __future__ import annotations

import asyncio

from gateway.http.flights import MAX_OF_TENANT, Flights


async def test_one_tenant_s_flights_leave_room_for_others() -> None:
    flights: Flights[int] = Flights()
    may_land = asyncio.Event()

    async def work() -> int:
        await may_land.wait()
        return 1

    begun = [
        asyncio.ensure_future(flights.begin(b"%d" % n, work(), tenant="greedy"))
        for n in range(MAX_OF_TENANT)
    ]
    await asyncio.sleep(0)
    assert flights.is_full("greedy")
    assert not flights.is_full("other")
    may_land.set()
    assert await asyncio.gather(*begun) == [1] * MAX_OF_TENANT
    await asyncio.sleep(0)
    assert not flights.is_full("greedy")
