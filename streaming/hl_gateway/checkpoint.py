"""Where a book starts: the node writes all resting orders of one height into a file, and we read
it.

Source: `fileSnapshot` of the node's local `/info` (node README), and a recorded snapshot of BTC.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

_DEADLINE_S = 60.0
_REPLY_BYTES = 200
_HEIGHT = re.compile(rb"\s*\[\s*(\d{1,18})\s*,")

Order = dict[str, Any]


class CheckpointError(Exception):
    """There is no usable checkpoint; the message says why, for an operator."""


class CoinOrders(NamedTuple):
    """Resting orders of one coin, best price first, oldest first within a price.

    Each order is the node's own `order` object, with `user` added where the checkpoint names users.
    """

    coin: str
    bids: list[Order]
    asks: list[Order]


class Checkpoint(NamedTuple):
    """All resting orders after block `height` was applied; the next diffs to apply are those of
    `height + 1`.
    """

    height: int
    coins: list[CoinOrders]


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Read `[height, [[coin, [bids, asks]], …]]`; entries are orders, or `[user, order]`.

    Untriggered trigger orders (`isTrigger`) rest in no book and are left out; triggered ones that
    rest carry false.

    Raises:
        CheckpointError: the bytes have another shape, or name no height.
    """
    try:
        # Coin by coin: decoding 20 MB of BTC holds the interpreter for up to 0.5 s, all coins
        # together for seconds.
        height, coins = msgspec.json.decode(data, type=tuple[int, list[tuple[str, msgspec.Raw]]])
        return Checkpoint(height, [_parse_coin(coin, raw) for coin, raw in coins])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"not a checkpoint with a height ({len(data)} bytes): {error}"
        ) from error


def read_checkpoint_file(path: Path | str) -> Checkpoint:
    """`parse_checkpoint` of a file, packed when its name ends in `.gz`. Blocking: seconds for all
    coins.

    Raises:
        CheckpointError: the file is missing, unreadable, or no checkpoint.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    try:
        return parse_checkpoint(data)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


async def request_checkpoint(
    info_url: str,
    out_path: Path | str,
    *,
    deadline_s: float = _DEADLINE_S,
    session: aiohttp.ClientSession | None = None,
) -> Checkpoint:
    """Have the node at `info_url` write a checkpoint to `out_path`, and read it.

    `info_url` is the node's base address (`http://127.0.0.1:3001`) or the `/info` address itself.
    `out_path` must be absolute and on a disk both processes see; a file left there is removed
    first, so that it cannot pass for the answer.

    Raises:
        CheckpointError: no answer within `deadline_s`, a refusal, or no usable file.
    """
    out_path = Path(out_path)
    url = _info_address(info_url)
    try:
        async with asyncio.timeout(deadline_s):
            await _have_written(url, out_path, session=session)
            return await asyncio.to_thread(read_checkpoint_file, out_path)
    except TimeoutError as error:
        raise CheckpointError(f"{url} gave no checkpoint within {deadline_s:g} s") from error


async def request_checkpoint_file(
    info_url: str,
    out_path: Path | str,
    *,
    deadline_s: float = _DEADLINE_S,
    session: aiohttp.ClientSession | None = None,
) -> int:
    """Like `request_checkpoint`, but the file stays as the node wrote it; returns its height.

    Raises:
        CheckpointError: as there; the rest of the file is not looked at.
    """
    url = _info_address(info_url)
    try:
        async with asyncio.timeout(deadline_s):
            await _have_written(url, Path(out_path), session=session)
            return await asyncio.to_thread(_read_height, Path(out_path))
    except TimeoutError as error:
        raise CheckpointError(f"{url} gave no checkpoint within {deadline_s:g} s") from error


def _info_address(info_url: str) -> str:
    base = info_url.rstrip("/")
    return base if base.endswith("/info") else f"{base}/info"


async def _have_written(url: str, out_path: Path, *, session: aiohttp.ClientSession | None) -> None:
    if not out_path.is_absolute():
        raise CheckpointError(f"the checkpoint path must be absolute, not {out_path}")
    try:
        await asyncio.to_thread(_clear, out_path)
        await _ask(url, out_path, session=session)
    except TimeoutError:  # an OSError too, but the caller has a word for it
        raise
    except (OSError, aiohttp.ClientError, ValueError) as error:
        raise CheckpointError(f"{url} gave no checkpoint: {error}") from error


def _read_height(path: Path) -> int:
    try:
        with path.open("rb") as file:
            head = file.read(_REPLY_BYTES)
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    match = _HEIGHT.match(head)
    if match is None:
        raise CheckpointError(f"{path}: not a checkpoint with a height")
    return int(match[1])


async def _ask(url: str, out_path: Path, *, session: aiohttp.ClientSession | None) -> None:
    request = {
        "type": "fileSnapshot",
        "request": {
            "type": "l4Snapshots",
            "includeUsers": True,
            "includeTriggerOrders": False,
        },
        "outPath": str(out_path),
        "includeHeightInOutput": True,
    }
    async with AsyncExitStack() as stack:
        if session is None:
            # The caller's deadline counts, not aiohttp's five minutes.
            timeout = aiohttp.ClientTimeout(total=None)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        reply = await stack.enter_async_context(session.post(url, json=request))
        body = await reply.content.read(_REPLY_BYTES)
        if reply.status != 200:
            text = body.decode("utf-8", "replace")
            raise CheckpointError(f"{url} answered {reply.status}: {text}")


def _clear(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _parse_coin(coin: str, raw: msgspec.Raw) -> CoinOrders:
    bids, asks = msgspec.json.decode(
        raw, type=tuple[list[tuple[str, Order] | Order], list[tuple[str, Order] | Order]]
    )
    return CoinOrders(coin, _resting(bids), _resting(asks))


def _resting(entries: list[tuple[str, Order] | Order]) -> list[Order]:
    orders = []
    for entry in entries:
        if isinstance(entry, tuple):
            user, order = entry
            order["user"] = user
        else:
            order = entry
        if not order.get("isTrigger"):
            orders.append(order)
    return orders
