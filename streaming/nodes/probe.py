"""Whether an upstream answers, for an operator who has just written its address."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from google.protobuf.message import DecodeError
from websockets.asyncio.client import connect

from streaming.core.without_secrets import without_secrets
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.nodes.models import UpstreamNode
from streaming.upstream.spec import parse_upstreams

#: For everything together: an operator waits for the page.
LIMIT_S = 3.0
MAX_ANSWER_BYTES = 64 * 1024
_STATUS = f"/{pb.DESCRIPTOR.services_by_name['HlGateway'].full_name}/Status"


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
            return await asyncio.to_thread(_ask_status, node)
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


def _ask_status(node: UpstreamNode) -> str:
    """Blocking: gRPC's own loop must not be bound to the one of a single request."""
    import grpc  # not before it is needed: it starts threads

    from streaming.upstream.links import credentials

    try:
        (spec,) = parse_upstreams(node.entry)
        tls = spec.tls and credentials(spec.tls)
    except (OSError, ValueError) as error:
        raise _Bad(f"The TLS files cannot be used here: {error}.") from error
    with (
        grpc.insecure_channel(spec.address)
        if tls is None
        else grpc.secure_channel(spec.address, tls)
    ) as channel:
        try:
            answer = channel.unary_unary(_STATUS)(b"", timeout=LIMIT_S - 0.5)
            status = pb.StatusResponse.FromString(answer)
        except grpc.RpcError as error:
            why = f"{error.code().name.lower()}: {error.details()}"
            raise _Bad(f"The gateway does not answer ({why}).") from error
        except DecodeError as error:
            raise _Bad("What answers is no gateway.") from error
    return _told(status)


def _told(status: pb.StatusResponse) -> str:
    if not status.kinds:
        return "The gateway answers, and serves nothing."
    top = max(kind.height for kind in status.kinds)
    grown = [kind.silent_s for kind in status.kinds if kind.silent_s >= 0]
    if not grown:
        return "The gateway answers; the node has no files yet."
    return f"The gateway answers: block {top:,}, its files grew {min(grown):,.1f} s ago."


async def _shake_hands(address: str) -> str:
    try:
        async with connect(address, open_timeout=LIMIT_S, close_timeout=0.2, proxy=None) as socket:
            await (await socket.ping())
    except TimeoutError:
        raise
    except Exception as error:  # websockets, TLS, DNS: each has its own
        why = str(error).replace(address, without_secrets(address)) or type(error).__name__
        raise _Bad(f"No WebSocket: {why}.") from error
    return "The WebSocket answers."


async def _ask_info(url: str) -> str:
    try:
        async with (
            aiohttp.ClientSession() as session,
            # Where an address leads is not for the other side to say: it would be asked from here.
            session.post(url, json={"type": "exchangeStatus"}, allow_redirects=False) as answer,
        ):
            await answer.content.read(MAX_ANSWER_BYTES)
            status = answer.status
    except (aiohttp.ClientError, OSError) as error:
        why = str(error).replace(url, without_secrets(url)) or type(error).__name__
        raise _Bad(f"/info does not answer: {why}.") from error
    # A node may refuse the question; what counts is that something that speaks HTTP is there.
    if 300 <= status < 400:
        raise _Bad(f"/info sends elsewhere (HTTP {status}): write the address it means.")
    if status >= 500 or status == 404:
        raise _Bad(f"/info answers HTTP {status}.")
    return f"/info answers (HTTP {status})."
