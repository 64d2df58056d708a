"""After a restart of Redis an edge's idle connections are dead; no customer's resume finds out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streaming.bus.log_reader import LogReader
from streaming.bus.replayer import READERS, Replayer
from streaming.core.envelope import Position
from streaming.core.replays import Question, Replay
from streaming.runtime import bus_client
from tests.support.services import start_redis

DEADLINE_S = 20.0


async def test_a_resume_is_answered_over_a_new_connection(tmp_path: Path) -> None:
    first = start_redis(tmp_path / "redis")
    port = int(first.url.rsplit(":", 1)[1].split("/")[0])
    try:
        async with bus_client(first.url) as client:
            replayer = Replayer(LogReader(client))
            task = asyncio.ensure_future(replayer.run())
            async with asyncio.timeout(DEADLINE_S):
                assert not any(answer.failure for answer in await ask(replayer))
                await asyncio.to_thread(first.stop)
                second = await asyncio.to_thread(start_redis, tmp_path / "second", port=port)
                try:
                    assert not any(answer.failure for answer in await ask(replayer))
                finally:
                    await asyncio.to_thread(second.stop)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        first.stop()


async def ask(replayer: Replayer) -> list[Replay]:
    """The answers to as many questions at a time as there are connections."""
    answers: asyncio.Queue[Replay] = asyncio.Queue()
    for _ in range(READERS):
        replayer.ask(Question("trades BTC", "n-0", Position(1)), answers.put_nowait)
    return [await answers.get() for _ in range(READERS)]
