"""`/livez`: the process answers. `/readyz`: it has what it needs to serve customers, now.

Readiness is the truth about the database, Redis and the age of the data, not about the process. The
rooms above bring their own checks with `register`; each is asked with a deadline and answers with
what is wrong, or None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import redis.asyncio
import structlog
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

log = structlog.get_logger(__name__)

#: An answer later than this is no answer; load balancers ask every few seconds.
DEADLINE_S = 2.0

Check = Callable[[], Awaitable[str | None]]
_checks: dict[str, Check] = {}


def register(name: str, check: Check) -> None:
    """Ask `check` at each `/readyz` and show its answer as `name`.

    It returns None when all is well, else one short line for the public: no address, no secret.
    """
    _checks[name] = check


async def database_check() -> str | None:
    """One round trip to the database."""
    await database_sync_to_async(_ask_database)()
    return None


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


async def redis_check() -> str | None:
    """One round trip to the Redis that carries the bus."""
    client = redis.asyncio.from_url(
        settings.REDIS_BUS_URL,
        socket_timeout=DEADLINE_S,
        socket_connect_timeout=DEADLINE_S,
    )
    try:
        await client.ping()
    finally:
        await client.aclose()
    return None


async def answer(name: str, check: Check) -> str | None:
    """What is wrong with `name`: None, the check's own line, or one line for a check that failed or
    hung.
    """
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await check()
    except TimeoutError:
        return f"no answer within {DEADLINE_S:g} s"
    except Exception as error:  # a readiness probe must answer, whatever broke
        log.warning("readiness_check_failed", check=name, error=repr(error))
        return "unavailable"


async def readiness() -> dict[str, str | None]:
    """Each check's name and what is wrong with it."""
    checks = {"database": database_check, "redis": redis_check, **_checks}
    answers = await asyncio.gather(*(answer(name, check) for name, check in checks.items()))
    return dict(zip(checks, answers, strict=True))


async def livez(_request: HttpRequest) -> HttpResponse:
    """200 as long as the process's loop turns."""
    return HttpResponse("ok\n", content_type="text/plain")


async def readyz(_request: HttpRequest) -> JsonResponse:
    """200 when every check is well, else 503; the body names each check and what is wrong."""
    found = await readiness()
    is_ready = not any(found.values())
    checks = {name: wrong or "ok" for name, wrong in found.items()}
    response = JsonResponse({"ready": is_ready, "checks": checks}, status=200 if is_ready else 503)
    # Django would log each 503 as an error of ours; a probe asks every second.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
