"""A source's `/info`: the names that exist there."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

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


# 4xx is an answer about the request; 408 and 429 are about the moment.
NO_ADDRESS = "has no info= address"
#: What a gateway without one says.
_NO_INFO = "failed_precondition: "
_REFUSAL = re.compile(rf"HTTP (?!408|429)4\d\d\Z|{NO_ADDRESS}\Z|{_NO_INFO}")
_TOO_MANY = re.compile(r"HTTP 429\Z")


class InfoFailed(Exception):
    """`/info` did not answer, or not with what was asked for; one line saying which. It ends with
    `HTTP <status>` when there was an answer."""

    @property
    def is_refusal(self) -> bool:
        """Whether the server does not know such a request; else another time it may answer."""
        return _REFUSAL.search(str(self)) is not None

    @property
    def is_too_many(self) -> bool:
        """Whether we ask too much."""
        return _TOO_MANY.search(str(self)) is not None


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


class Collected(NamedTuple):
    """A catalogue, and whether every part that is known there answered."""

    catalogue: Catalogue
    is_whole: bool


async def read_catalogue(url: str, *, before: Catalogue) -> Collected:
    """`collect_catalogue` from the `/info` at `url`. Raises InfoFailed."""
    async with aiohttp.ClientSession() as session:
        return await collect_catalogue(lambda body: ask(session, url, body), before=before)


async def collect_catalogue(ask_info: Ask, *, before: Catalogue) -> Collected:
    """Every coin of perps, builder dexes, spot and outcomes. Raises InfoFailed when the perps
    cannot be read.

    Spot, builder dexes and outcomes are optional: a node of an older version does not know all of
    them, and refuses. When one of them fails otherwise, the names of `before` stay.
    """
    optional = _Optional(ask_info)
    coins = _names(await ask_info({"type": "meta"}))
    dexes: set[str] = set()
    for dex in await optional.ask({"type": "perpDexs"}) or []:
        if isinstance(dex, dict) and isinstance(dex.get("name"), str):
            dexes.add(dex["name"])
            coins |= _names(await optional.ask({"type": "meta", "dex": dex["name"]}))
    coins |= _names(await optional.ask({"type": "spotMeta"}))
    coins |= _outcomes(await optional.ask({"type": "outcomeMeta"}))
    found = Catalogue(frozenset(coins), frozenset(dexes))
    return Collected(found | before if optional.has_failed else found, not optional.has_failed)


class _Optional:
    """Asks for what may not be there."""

    def __init__(self, ask_info: Ask) -> None:
        self._ask_info = ask_info
        self._is_too_many = False
        self.has_failed = False

    async def ask(self, body: dict[str, Any]) -> Any:
        """The answer, or None."""
        if self._is_too_many:
            return None
        try:
            return await self._ask_info(body)
        except InfoFailed as failed:
            self.has_failed |= not failed.is_refusal
            self._is_too_many = failed.is_too_many
            log.info("catalogue_part_missing", reason=str(failed))
            return None


def pause_s(failures: int, *, least_s: float, most_s: float) -> float:
    """How long to wait after so many failures in a row: longer each time, and not all at once."""
    return min(most_s, least_s * 2 ** min(failures - 1, 10)) * random.uniform(0.75, 1.25)  # noqa: S311


def _names(meta: Any) -> set[str]:
    universe = meta.get("universe") if isinstance(meta, dict) else None
    entries = universe if isinstance(universe, list) else []
    return {e["name"] for e in entries if isinstance(e, dict) and isinstance(e.get("name"), str)}


def _outcomes(meta: Any) -> set[str]:
    """`#<10*outcome+side>` for both sides of each outcome."""
    outcomes = meta.get("outcomes") if isinstance(meta, dict) else None
    numbers = [o.get("outcome") for o in outcomes or [] if isinstance(o, dict)]
    return {f"#{10 * n + side}" for n in numbers if isinstance(n, int) for side in (0, 1)}
