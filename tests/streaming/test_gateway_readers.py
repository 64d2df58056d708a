"""What one reader of a gateway can cost the others: its own calls, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import MARKET_KINDS
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.hl_gateway.peers import PeerCalls
from streaming.hl_gateway.service import CALLS_PER_HOST
from tests.streaming.gateways import DEADLINE_S, GatewayProcess
from tests.streaming.node_lines import BY_BLOCK, FILLS, STATUSES, NodeDirectory, node_line

SERVICE = "/hlrelay.gateway.v1.HlGateway/"
MIB = 1024 * 1024


@pytest.fixture
def node(tmp_path: Path) -> NodeDirectory:
    node = NodeDirectory(tmp_path / "hl" / "data")
    for kind in MARKET_KINDS:
        node.write(kind, BY_BLOCK, node_line(100) + b"\n")
    return node


def channel_to(gateway: GatewayProcess) -> grpc.aio.Channel:
    """A connection of its own, whose window does not grow: it would swallow some MB unread."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.http2.bdp_probe", 0),
    ]
    return grpc.aio.insecure_channel(gateway.address, options=options)


async def figures(channel: grpc.aio.Channel) -> pb.StatusResponse:
    return pb.StatusResponse.FromString(await channel.unary_unary(f"{SERVICE}Status")(b""))


async def until_cut(channel: grpc.aio.Channel, count: int) -> pb.StatusResponse:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            status = await figures(channel)
            if status.clients_cut >= count and not status.clients:
                return status
            await asyncio.sleep(0.05)


async def test_readers_that_never_read_hold_nothing_of_the_past(
    node: NodeDirectory, tmp_path: Path
) -> None:
    for height in range(101, 141):
        node.write(STATUSES, BY_BLOCK, node_line(height, "x" * 300_000) + b"\n")
    options = ("--memory-mib", "16", "--kinds", STATUSES, "--stalled-s", "0.5")
    request = pb.StreamBlocksRequest(kinds=[pb.KindFrom(kind=STATUSES)], history=[STATUSES])
    with GatewayProcess(node.root, log=tmp_path / "gateway.log", options=options) as gateway:
        async with channel_to(gateway) as asking:
            before = (await figures(asking)).memory_bytes
            channels = [channel_to(gateway) for _ in range(12)]
            calls = [
                channel.unary_stream(f"{SERVICE}StreamBlocks")(request.SerializeToString())
                for channel in channels
            ]
            for call in calls:
                await call.read()  # where each kind starts, and nothing further
            after = (await until_cut(asking, len(calls))).memory_bytes
            for channel in channels:
                await channel.close()
    # 12 MiB are held; each reader costs a response or two, not all of it.
    assert after - before < len(calls) * 4 * MIB


async def test_a_host_has_its_share_of_calls(node: NodeDirectory, tmp_path: Path) -> None:
    request = pb.StreamBlocksRequest(kinds=[pb.KindFrom(kind=FILLS)]).SerializeToString()
    with GatewayProcess(node.root, log=tmp_path / "gateway.log") as gateway:
        async with channel_to(gateway) as channel:
            stream = channel.unary_stream(f"{SERVICE}StreamBlocks")
            calls = [stream(request) for _ in range(CALLS_PER_HOST)]
            for call in calls:
                await call.read()
            with pytest.raises(grpc.aio.AioRpcError, match="this host has") as refused:
                await stream(request).read()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            calls[0].cancel()
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    try:
                        assert (await figures(channel)).clients == CALLS_PER_HOST - 1
                        break
                    except grpc.aio.AioRpcError:  # the cancelled one is still on its way
                        await asyncio.sleep(0.01)


peers = st.sampled_from(
    ["ipv4:10.0.0.7:1", "ipv4:10.0.0.7:2", "ipv4:10.0.0.8:1", "ipv6:%5B::1%5D:9", "unix:"]
)


@given(steps=st.lists(st.tuples(peers, st.booleans()), max_size=60), limit=st.integers(1, 4))
def test_no_host_takes_from_another(steps: list[tuple[str, bool]], limit: int) -> None:
    calls, entered = PeerCalls(limit=limit), list[str]()
    for peer, is_end in steps:
        host = peer[:13]
        if is_end and peer in entered:
            entered.remove(peer)
            calls.leave(peer)
        elif not is_end:
            has_room = Counter(each[:13] for each in entered)[host] < limit
            assert calls.enter(peer) is has_room
            entered += [peer] * has_room


@asynccontextmanager
async def node_info(size_bytes: int) -> AsyncIterator[str]:
    """A node's `/info` that writes checkpoints of so many bytes."""

    async def info(request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        await asyncio.to_thread(_write_checkpoint, Path(body["outPath"]), size_bytes)
        return web.json_response(None)

    app = web.Application()
    app.router.add_post("/info", info)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _write_checkpoint(path: Path, size_bytes: int) -> None:
    padding = " " * size_bytes
    path.write_text(json.dumps([985148181, []])[:-1] + padding + "]", "ascii")


async def test_who_takes_a_checkpoint_slowly_keeps_nobody_waiting(
    node: NodeDirectory, tmp_path: Path
) -> None:
    async with node_info(64 * MIB) as url:
        options = ("--info", url, "--kinds", FILLS)
        with GatewayProcess(node.root, log=tmp_path / "gateway.log", options=options) as gateway:
            async with channel_to(gateway) as slow, channel_to(gateway) as quick:
                taken = slow.unary_stream(f"{SERVICE}Checkpoint")(b"")
                await taken.read()  # one chunk, and no other
                received = 0
                async with asyncio.timeout(DEADLINE_S / 4):
                    async for data in quick.unary_stream(f"{SERVICE}Checkpoint")(b""):
                        received += len(pb.CheckpointResponse.FromString(data).chunk)
                assert received > 64 * MIB
                taken.cancel()
