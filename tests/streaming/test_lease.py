"""One holder at a time: the next takes over within a second of a holder's death, and only then."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from streaming.bus.lease import TTL_S, Lease, LeaseLost


async def test_the_second_waits_until_the_first_is_gone(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        await client.delete("test:lease")
        first = Lease(client, key="test:lease", holder="one")
        second = Lease(client, key="test:lease", holder="two")
        await first.acquire()
        keeping = asyncio.ensure_future(first.keep())
        waiting = asyncio.ensure_future(second.acquire())
        done, _ = await asyncio.wait([waiting], timeout=TTL_S * 1.5)
        assert not done, "taken while it was held"
        keeping.cancel()  # the holder dies: nobody gives anything back
        await asyncio.wait_for(waiting, TTL_S * 4)
        assert second.is_held


async def test_a_released_lease_is_free_at_once(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        await client.delete("test:lease")
        first = Lease(client, key="test:lease", holder="one")
        second = Lease(client, key="test:lease", holder="two")
        await first.acquire()
        await second.release()  # not the holder: changes nothing
        assert await client.get("test:lease") == b"one"
        await first.release()
        await asyncio.wait_for(second.acquire(), 0.2)


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("waits", [Lease.acquire, Lease.keep])
async def test_who_is_stopped_stops_although_the_client_swallows_it(
    answer: int, waits: Callable[[Lease], Awaitable[None]]
) -> None:
    """redis-py then answers as if nothing had been: another's lease was waited for for ever."""
    asked = asyncio.Event()

    class Client:
        def register_script(self, _: str) -> Callable[..., Awaitable[int]]:
            return self.answered

        async def answered(self, **_: object) -> int:
            if not asked.is_set():  # once: a test that fails must end
                asked.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return answer

    lease = Lease(Client(), key="test:lease", holder="one")  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(waits(lease))
    await asked.wait()
    waiting.cancel()
    done, _ = await asyncio.wait([waiting], timeout=TTL_S)
    assert done
    assert waiting.cancelled()


async def test_who_was_overtaken_is_told(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        await client.delete("test:lease")
        lease = Lease(client, key="test:lease", holder="one")
        await lease.acquire()
        await client.set("test:lease", "two")
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(lease.keep(), TTL_S)
        assert not lease.is_held


async def test_who_stood_still_for_too_long_knows_it_by_the_clock(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        await client.delete("test:lease")
        lease = Lease(client, key="test:lease", holder="one")
        assert not lease.is_held
        await lease.acquire()
        assert lease.is_held
        # As after SIGSTOP: nothing was asked of Redis yet.
        later_s = time.monotonic() + TTL_S
        monkeypatch.setattr(time, "monotonic", lambda: later_s)
        assert not lease.is_held


async def test_a_flush_of_redis_loses_nothing(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        await client.delete("test:lease")
        lease = Lease(client, key="test:lease", holder="one")
        await lease.acquire()
        await client.delete("test:lease")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lease.keep(), TTL_S)
        assert await client.get("test:lease") == b"one"
