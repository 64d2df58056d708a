"""A source's `/info`: the names that exist there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import structlog

from streaming.core.catalogue import Catalogue

log = structlog.get_logger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
#: A `meta` of mainnet is 40 KB, `spotMeta` 300 KB; anything above this is not what we asked for.
MAX_BODY_BYTES = 32 * 1024 * 1024


#: Asks one info request (its JSON object) and gives the decoded answer; raises InfoFailed.
Ask = Callable[[dict[str, Any]], Awaitable[Any]]


class InfoFailed(Exception):
    """`/info` did not answer, or not with what was asked for; one line saying which."""


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Any:
    """POST one info request. Raises InfoFailed."""
    try:
        async with session.post(url, json=body, timeout=TIMEOUT) as answer:
            data = await read_body(answer)
            if answer.status != 200:
                raise InfoFailed(f"{body['type']}: HTTP {answer.status}")
            return orjson.loads(data)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise InfoFailed(f"{body['type']}: {error or type(error).__name__}") from error
    except orjson.JSONDecodeError as error:
        raise InfoFailed(f"{body['type']}: not JSON") from error


async def read_body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, in however many pieces it comes. Raises InfoFailed above `MAX_BODY_BYTES`."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise InfoFailed(f"more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def read_catalogue(url: str) -> Catalogue:
    """`collect_catalogue` from the `/info` at `url`. Raises InfoFailed."""
    async with aiohttp.ClientSession() as session:
        return await collect_catalogue(lambda body: ask(session, url, body))


async def collect_catalogue(ask_info: Ask) -> Catalogue:
    """Every coin of perps, builder dexes, spot and outcomes. Raises InfoFailed when the perps
    cannot be read.

    Spot, builder dexes and outcomes are optional: a node of an older version does not know all of
    them.
    """
    coins = _names(await ask_info({"type": "meta"}))
    dexes: set[str] = set()
    for dex in await _maybe(ask_info, {"type": "perpDexs"}) or []:
        if isinstance(dex, dict) and isinstance(dex.get("name"), str):
            dexes.add(dex["name"])
            coins |= _names(await _maybe(ask_info, {"type": "meta", "dex": dex["name"]}))
    coins |= _names(await _maybe(ask_info, {"type": "spotMeta"}))
    coins |= _outcomes(await _maybe(ask_info, {"type": "outcomeMeta"}))
    return Catalogue(frozenset(coins), frozenset(dexes))


async def _maybe(ask_info: Ask, body: dict[str, Any]) -> Any:
    try:
        return await ask_info(body)
    except InfoFailed as failed:
        log.info("catalogue_part_missing", reason=str(failed))
        return None


def _names(meta: Any) -> set[str]:
    universe = meta.get("universe") if isinstance(meta, dict) else None
    entries = universe if isinstance(universe, list) else []
    return {e["name"] for e in entries if isinstance(e, dict) and isinstance(e.get("name"), str)}


def _outcomes(meta: Any) -> set[str]:
    """`#<10*outcome+side>` for both sides of each outcome."""
    outcomes = meta.get("outcomes") if isinstance(meta, dict) else None
    numbers = [o.get("outcome") for o in outcomes or [] if isinstance(o, dict)]
    return {f"#{10 * n + side}" for n in numbers if isinstance(n, int) for side in (0, 1)}
