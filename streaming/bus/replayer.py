"""Joins the hub, which asks without waiting, to the replay log, which is read over the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from streaming.bus import metrics
from streaming.bus.log_reader import LogReader, TooOld
from streaming.core.envelope import ORIGIN
from streaming.core.replays import Question, Replay
from streaming.core.topic import parse_name
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: Entries per read; the hub asks again for more. 15,000 frames of a 30 s absence are 15 reads.
PAGE = 1_000
#: Of bulk, where an entry is up to 0.5 MB: 16 MB.
BULK_PAGE = 32
#: Reads at a time, and how many may wait for their turn.
READERS = 8
MAX_WAITING = 10_000
DEADLINE_S = 2.0

_Task = tuple[Question, Callable[[Replay], None]]


class Replayer:
    """Implements `streaming.core.hub.Replays`."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._questions: asyncio.Queue[_Task] = asyncio.Queue(MAX_WAITING)

    def ask(self, question: Question, answer: Callable[[Replay], None]) -> None:
        """Read when it is this question's turn; refused at once when too many wait."""
        try:
            self._questions.put_nowait((question, answer))
        except asyncio.QueueFull:
            metrics.LOG_READS.labels("refused").inc()
            answer(Replay(failure="too many resumes at once: try again"))

    async def run(self) -> None:
        """Answer questions until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            question, answer = await self._questions.get()
            replay = await self._read(question)
            stop_if_cancelled()
            try:
                answer(replay)
            except Exception:
                log.exception("replay_failed", topic=question.name)

    async def _read(self, question: Question) -> Replay:
        try:
            async with asyncio.timeout(DEADLINE_S):
                replay = await self._ask_log(question)
        except TooOld as too_old:
            replay = Replay(oldest=too_old.oldest, failure="the replay log does not reach back")
        except (RedisError, OSError, TimeoutError) as error:
            stop_if_cancelled()
            metrics.LOG_READS.labels("failed").inc()
            log.warning("replay_log_not_read", error=str(error) or type(error).__name__)
            return Replay(failure="the replay log cannot be read now: try again")
        metrics.LOG_READS.labels("done").inc()
        return replay

    async def _ask_log(self, question: Question) -> Replay:
        topic, after = parse_name(question.name), question.after
        if question.since_ms is not None:
            found = await self._reader.resolve_ms(topic, question.since_ms, epoch=question.epoch)
            after = ORIGIN if found is None else found
        read = await self._reader.read(
            topic,
            after,
            until=question.until,
            limit=BULK_PAGE if topic.is_bulk else PAGE,
            epoch=question.epoch,
        )
        return Replay(entries=read.entries, oldest=read.oldest, is_whole=read.is_whole, after=after)
