"""Whether an upstream answers, for an operator who has just written its address."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from websockets.asyncio.client import connect

from streaming.nodes.models import UpstreamNode

#: For everything together: an operator waits for the page.
LIMIT_S = 3.0
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome; `text` is one or more short sentences for the operator."""

    is_good: bool
    text: str


class _Bad(Exception):
    """What is wrong, as a sentence."""


def probe(node: UpstreamNode) -> Finding:
    """Try the upstream from this process, which need not be where its worker runs."""
    return asyncio.run(_probe(node))


async def _probe(node: UpstreamNode) -> Finding:
    told: list[str] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            told.append(await _reach(node))
            if node.info_url:
                told.append(await _ask_info(node.info_url))
    except _Bad as bad:
        return Finding(False, " ".join([*told, str(bad)]))
    except TimeoutError:
        return Finding(False, " ".join([*told, f"No answer within {LIMIT_S:g} s."]))
    return Finding(True, " ".join(told))


async def _reach(node: UpstreamNode) -> str:
    match node.kind:
        case UpstreamNode.Kind.NODE:
            # In a thread: a folder on a network that is gone can block for minutes.
            return await asyncio.to_thread(_look, Path(node.address))
        case UpstreamNode.Kind.GATEWAY:
            return await _dial(node.address)
        case _:
            return await _shake_hands(node.address)


def _look(folder: Path) -> str:
    try:
        kinds = sorted(child.name for child in folder.iterdir() if child.is_dir())
    except OSError as error:
        raise _Bad(f"The folder cannot be read: {error.strerror}.") from error
    known = [name for name in kinds if name.startswith(("node_", "misc_", "replica_"))]
    if not known:
        raise _Bad("The folder holds no node files (node_fills_by_block and the like).")
    return f"The folder holds {', '.join(known[:6])}."


async def _dial(address: str) -> str:
    url = urlsplit(f"//{address}")
    try:
        _, writer = await asyncio.open_connection(url.hostname, url.port)
    except OSError as error:
        raise _Bad(f"No connection: {error.strerror or error}.") from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return "The gateway's port is open."


async def _shake_hands(address: str) -> str:
    try:
        async with connect(address, open_timeout=LIMIT_S, close_timeout=0.2, proxy=None) as socket:
            await (await socket.ping())
    except TimeoutError:
        raise
    except Exception as error:  # websockets, TLS, DNS: each has its own
        raise _Bad(f"No WebSocket: {error or type(error).__name__}.") from error
    return "The WebSocket answers."


async def _ask_info(url: str) -> str:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"type": "exchangeStatus"}) as answer,
        ):
            await answer.content.read(MAX_ANSWER_BYTES)
            status = answer.status
    except (aiohttp.ClientError, OSError) as error:
        raise _Bad(f"/info does not answer: {error or type(error).__name__}.") from error
    # A node may refuse the question; what counts is that something that speaks HTTP is there.
    if status >= 500 or status == 404:
        raise _Bad(f"/info answers HTTP {status}.")
    return f"/info answers (HTTP {status})."
