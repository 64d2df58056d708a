"""The open sessions of this process, told to whoever asks across processes, and ended on request.

Each edge keeps a hash in Redis that expires with it; who reads it disturbs no edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from streaming.bus import keys
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: Everything is told this often; what was opened or closed, within `COALESCE_S`.
REFRESH_S = 5.0
COALESCE_S = 0.25
RETRY_S = 0.5
#: How long one wait for a request to disconnect lasts; below the client's socket timeout of 5 s.
LISTEN_S = 2.0
#: Sessions described without letting frames through: about 1 ms.
AT_A_TIME = 200
#: Topics named for one session; the count says how many there are.
MAX_TOPICS_TOLD = 100


class SessionRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One open session as operators see it. Never holds a key, only its prefix.

    `topics` are the names of the first `MAX_TOPICS_TOLD`; `held_bytes` waits for the customer now,
    and so do `held_frames` (of the bulk kinds the bytes are everybody's, and are not in it);
    `sent`, `conflated` and `shed` count frames since the session began; `cursor` is the last one
    handed out, "" where the dialect has none. `opened_ms` is wall time since 1970.
    """

    id: str
    edge: str
    key_id: int
    key_prefix: str
    tenant_id: int
    tenant: str
    address: str
    dialect: str
    opened_ms: int
    door: str = "ws"
    topics: tuple[str, ...] = ()
    topic_count: int = 0
    held_bytes: int = 0
    held_frames: int = 0
    sent: int = 0
    conflated: int = 0
    shed: int = 0
    cursor: str = ""


class OpenSession(Protocol):
    """What the registry needs of a connection, whatever carries it."""

    session_id: str

    def describe(self) -> SessionRow:
        """The session now; called every few seconds, on the loop that owns it."""

    def disconnect(self, reason: str) -> None:
        """End it from our side, at once; `reason` is one line for the log."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SessionRow)


def decode(data: bytes) -> SessionRow:
    """The row in `data`. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def edge_of(session_id: str) -> str:
    """The edge that owns the session."""
    return session_id.partition("-")[0]


class SessionRegistry:
    """This process's side. `sessions` gives the open ones."""

    def __init__(
        self,
        *,
        client: redis.asyncio.Redis,
        edge: str,
        sessions: Callable[[], Iterable[OpenSession]],
    ) -> None:
        self._client = client
        self._edge = edge
        self._sessions = sessions
        self._key = keys.SESSIONS.format(edge=edge)
        self._told: set[str] = set()
        self._changed: set[str] = set()
        self._numbers = itertools.count(1)
        self._wake = asyncio.Event()

    def new_id(self) -> str:
        """An id for a session that begins; names this edge."""
        return f"{self._edge}-{next(self._numbers)}"

    def changed(self, session_id: str) -> None:
        """This session began, ended, or follows something else: tell it soon."""
        self._changed.add(session_id)
        self._wake.set()

    async def run(self) -> None:
        """Tell and listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_telling())
            group.create_task(self._keep_listening())

    async def close(self) -> None:
        """Nothing is open here any more."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(self._key, keys.DISCONNECTS.format(edge=self._edge))
            pipe.srem(keys.SESSION_EDGES, self._edge)
            await pipe.execute()

    # --- telling ---

    async def _keep_telling(self) -> None:
        loop = asyncio.get_running_loop()
        refresh_at_s = 0.0
        while True:
            self._wake.clear()
            is_refresh = loop.time() >= refresh_at_s
            if is_refresh:
                refresh_at_s = loop.time() + REFRESH_S
            try:
                await self._tell(is_refresh=is_refresh)
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("sessions_not_told", error=str(error))
                refresh_at_s = 0.0
                await asyncio.sleep(RETRY_S)
                continue
            stop_if_cancelled()
            await asyncio.sleep(COALESCE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(refresh_at_s - loop.time(), 0.0)):
                    await self._wake.wait()

    async def _tell(self, *, is_refresh: bool) -> None:
        changed, self._changed = self._changed, set()
        open_ids: set[str] = set()
        rows: dict[Any, Any] = {}
        for number, session in enumerate(list(self._sessions()), 1):
            open_ids.add(session.session_id)
            if is_refresh or session.session_id in changed:
                rows[session.session_id] = _encoder.encode(session.describe())
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
        async with self._client.pipeline(transaction=True) as pipe:
            if is_refresh:
                # Everything anew: a flush of Redis would otherwise go unnoticed.
                pipe.delete(self._key)
            elif gone := self._told - open_ids:
                pipe.hdel(self._key, *gone)
            if rows:
                pipe.hset(self._key, mapping=rows)
            pipe.expire(self._key, keys.SESSIONS_TTL_S)
            pipe.sadd(keys.SESSION_EDGES, self._edge)
            await pipe.execute()
        self._told = open_ids

    # --- listening ---

    async def _keep_listening(self) -> None:
        key = keys.DISCONNECTS.format(edge=self._edge)
        while True:
            try:
                asked = await self._client.blpop([key], timeout=LISTEN_S)
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("disconnects_not_read", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            stop_if_cancelled()
            if asked is not None:
                self._end(_text(asked[1]))

    def _end(self, session_id: str) -> None:
        for session in self._sessions():
            if session.session_id == session_id:
                log.info("session_ended_on_request", session=session_id)
                session.disconnect("disconnected on request")
                self.changed(session_id)
                return


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
