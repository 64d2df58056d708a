"""Real gateways on real files: what comes through one is what is in the files, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from relay_site.processes import free_port
from streaming.core.blocks import MARKET_KINDS, FileKind, LateBlock, RawBlock
from streaming.hl_gateway.assemble import FileMode
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.hl_gateway.tail import read_directory
from streaming.upstream.sources.nodes import NODE_FILES
from tests.streaming.gateways import (
    DEADLINE_S,
    Delivered,
    GatewayProcess,
    following,
    gateway_link,
)
from tests.streaming.node_lines import (
    BY_BLOCK,
    FILLS,
    STATUSES,
    NodeDirectory,
    node_line,
)

STREAM = "/hlrelay.gateway.v1.HlGateway/StreamBlocks"


@pytest.fixture
def node(tmp_path: Path) -> NodeDirectory:
    """A node whose three market kinds hold block 100, by block."""
    node = NodeDirectory(tmp_path / "hl" / "data")
    write(node, 100)
    return node


@pytest.fixture
def gateway(node: NodeDirectory, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(node.root, log=tmp_path / "gateway.log") as gateway:
        yield gateway


def write(node: NodeDirectory, *heights: int, mode: FileMode = BY_BLOCK, size: int = 1) -> None:
    for height in heights:
        for kind in MARKET_KINDS:
            node.write(kind, mode, node_line(height, f"{kind}-{height}" + "x" * size) + b"\n")


def pick(block: RawBlock) -> tuple[Any, ...]:
    """All of a block but when it was read."""
    return block.kind, block.height, block.lines, isinstance(block, LateBlock)


def expect_unbroken(delivered: Delivered, first: int, last: int) -> None:
    """Each height once, in order, each vouching for the one before it."""
    for kind in MARKET_KINDS:
        blocks = [block for block in delivered.blocks if block.kind is kind]
        assert [block.height for block in blocks] == list(range(first, last + 1)), kind
        for before, block in pairwise(blocks):
            assert block.previous == before.height


async def end_of(call: Any) -> grpc.StatusCode:
    """The code of a stream after reading all of it."""
    async with asyncio.timeout(DEADLINE_S):
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        code: grpc.StatusCode = await call.code()
        return code


@pytest.mark.parametrize("mode", FileMode)
async def test_recorded_blocks_arrive_as_the_files_hold_them(
    test_data: Path, tmp_path: Path, mode: FileMode
) -> None:
    node = NodeDirectory(tmp_path / "hl" / "data")
    node.root.mkdir(parents=True)
    with GatewayProcess(node.root, log=tmp_path / "gateway.log") as gateway:
        async with following(gateway_link(gateway.address, scratch=tmp_path)) as delivered:
            for kind in MARKET_KINDS:
                (path,) = (test_data / "node").glob(f"{kind}_{mode}.2*.gz")
                data = gzip.decompress(path.read_bytes())
                for start in range(0, len(data), 700_001):
                    node.write(kind, mode, data[start : start + 700_001])
            # A higher block closes the last recorded one of streaming files.
            write(node, 985148213, mode=mode)
            write(node, 985148214, mode=mode)
            wanted = {
                kind: [pick(b) for b in read_directory(node.root, mode=mode, kinds=[kind])]
                for kind in MARKET_KINDS
            }
            last = 985148214 if mode is BY_BLOCK else 985148213
            await delivered.until(
                lambda: all(last in delivered.heights(kind) for kind in MARKET_KINDS)
            )
    for kind, blocks in wanted.items():
        got = [pick(block) for block in delivered.blocks if block.kind is kind]
        assert got == [block for block in blocks if block[1] <= last]
    vouched = [block.previous for block in delivered.blocks if block.kind is STATUSES]
    assert None not in vouched[1:]


async def test_a_new_link_gets_what_closes_from_now_on_and_older_fills(
    node: NodeDirectory, gateway: GatewayProcess, tmp_path: Path
) -> None:
    write(node, 101)
    async with following(gateway_link(gateway.address, scratch=tmp_path)) as first:
        write(node, 102)
        await first.until(lambda: 102 in first.heights(STATUSES))
        async with following(gateway_link(gateway.address, scratch=tmp_path)) as second:
            write(node, *range(103, 110))
            for delivered in (first, second):
                await delivered.until(lambda d=delivered: 109 in d.heights(STATUSES))
    # 101 may have been read before or after the first one joined.
    assert [block.height for block in second.history] == [100, 101, 102]
    assert {block.kind for block in second.history} == {FILLS}
    expect_unbroken(second, 103, 109)
    joined = first.heights(FILLS)[0]
    assert joined in (101, 102)
    assert [block.height for block in first.history] == list(range(100, joined))


@pytest.mark.parametrize("seed", range(3))
async def test_a_gateway_that_is_killed_is_resumed_by_height(
    node: NodeDirectory, gateway: GatewayProcess, tmp_path: Path, seed: int
) -> None:
    # Different places of the kill: between blocks, and with blocks on the way.
    async with following(gateway_link(gateway.address, scratch=tmp_path)) as delivered:
        write(node, *range(101, 120 + 7 * seed))
        await delivered.until(lambda: len(delivered.heights(STATUSES)) > 5 * seed)
        gateway.kill()
        write(node, *range(120 + 7 * seed, 180))
        await asyncio.to_thread(gateway.start)
        write(node, *range(180, 200))
        await delivered.until(lambda: 199 in delivered.heights(STATUSES))
        await delivered.until(lambda: 199 in delivered.heights(FILLS))
        state = delivered.link.state()
    first = delivered.heights(FILLS)[0]
    expect_unbroken(delivered, first, 199)
    assert first == 101
    assert (state["connects"], state["lost"]) == (2, 0)


async def test_raw_blocks_are_resumed_by_height_too(
    node: NodeDirectory, gateway: GatewayProcess, tmp_path: Path
) -> None:
    file = node.root / "replica_cmds" / "2026-05-05T17:39:13Z" / "20260505" / "100"
    file.parent.mkdir(parents=True)

    def commit(*heights: int) -> None:
        with file.open("ab", buffering=0) as out:
            out.write(b"".join(b'{"abci_block":{"round":%d}}\n' % height for height in heights))

    kinds = (FILLS, FileKind.BLOCKS)
    commit(101)
    gateway.kill()
    await asyncio.to_thread(gateway.start)
    async with following(gateway_link(gateway.address, scratch=tmp_path, kinds=kinds)) as delivered:
        commit(102, 103)
        await delivered.until(lambda: 103 in delivered.heights(FileKind.BLOCKS))
        gateway.kill()
        commit(104, 105, 106)
        await asyncio.to_thread(gateway.start)
        commit(107)
        await delivered.until(lambda: 107 in delivered.heights(FileKind.BLOCKS))
        assert delivered.link.state()["lost"] == 0
    blocks = [block for block in delivered.blocks if block.kind is FileKind.BLOCKS]
    assert [block.height for block in blocks] == list(range(102, 108))
    assert [block.previous for block in blocks[1:]] == list(range(102, 107))


async def test_a_gateway_that_stands_still_is_left_and_taken_up_again(
    node: NodeDirectory, gateway: GatewayProcess, tmp_path: Path
) -> None:
    assert gateway.process is not None
    async with following(gateway_link(gateway.address, scratch=tmp_path)) as delivered:
        os.kill(gateway.process.pid, signal.SIGSTOP)
        write(node, *range(101, 120))
        await delivered.until(lambda: not delivered.link.state()["connected"])
        os.kill(gateway.process.pid, signal.SIGCONT)
        await delivered.until(lambda: 119 in delivered.heights(STATUSES))
    expect_unbroken(delivered, 101, 119)


async def test_what_is_no_longer_held_shows_in_previous(
    node: NodeDirectory, tmp_path: Path
) -> None:
    small = ("--memory-mib", "8")
    with GatewayProcess(node.root, log=tmp_path / "gateway.log", options=small) as gateway:
        async with following(gateway_link(gateway.address, scratch=tmp_path)) as delivered:
            write(node, 101)
            await delivered.until(lambda: 101 in delivered.heights(STATUSES))
            gateway.kill()
            write(node, *range(102, 300), size=40_000)
            await asyncio.to_thread(gateway.start)
            await delivered.until(lambda: 299 in delivered.heights(STATUSES))
            await delivered.until(lambda: delivered.link.state()["gateway"].get("kinds"))
            held = delivered.link.state()
    assert held["lost"] == 1
    for kind in MARKET_KINDS:
        blocks = [block for block in delivered.blocks if block.kind is kind]
        assert (blocks[0].height, blocks[-1].height) == (101, 299)
        assert blocks[1].height > 102
        assert blocks[1].previous in (None, blocks[1].height - 1)
        heights = [block.height for block in blocks[1:]]
        assert heights == list(range(heights[0], 300))


async def test_a_reader_that_does_not_read_is_cut_and_costs_no_memory(
    node: NodeDirectory, tmp_path: Path
) -> None:
    small = ("--memory-mib", "16", "--kinds", STATUSES, "--stalled-s", "0.5")
    with GatewayProcess(node.root, log=tmp_path / "gateway.log", options=small) as gateway:
        async with (
            grpc.aio.insecure_channel(gateway.address) as channel,
            following(gateway_link(gateway.address, scratch=tmp_path, kinds=(STATUSES,))) as other,
        ):
            request = pb.StreamBlocksRequest(kinds=[pb.KindFrom(kind=STATUSES)])
            silent = channel.unary_stream(STREAM)(request.SerializeToString())
            await silent.read()
            await other.until(lambda: other.link.state()["gateway"].get("clients") == 2)
            before = other.link.state()["gateway"]["memory_bytes"]
            for first in range(101, 401, 10):
                for height in range(first, first + 10):
                    node.write(STATUSES, BY_BLOCK, node_line(height, "x" * 300_000) + b"\n")
                await other.until(lambda last=first + 9: last in other.heights(STATUSES))
            await other.until(lambda: other.link.state()["gateway"]["clients"] == 1)
            after = other.link.state()["gateway"]["memory_bytes"]
            assert "reader_cut" in gateway.text
            assert await end_of(silent) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "resume by height" in await silent.details()
    # 90 MB were read, 16 MiB are held.
    assert after - before < 64 * 1024 * 1024
    assert other.heights(STATUSES) == list(range(101, 401))
    assert other.link.state()["connects"] == 1


REQUESTS = {
    "no kind": pb.StreamBlocksRequest(),
    "not serve '../../etc": pb.StreamBlocksRequest(kinds=[pb.KindFrom(kind="../../etc/passwd")]),
    "not serve 'misc": pb.StreamBlocksRequest(kinds=[pb.KindFrom(kind="misc_events")]),
    "twice": pb.StreamBlocksRequest(kinds=[pb.KindFrom(kind=FILLS), pb.KindFrom(kind=FILLS)]),
    "history of": pb.StreamBlocksRequest(
        kinds=[pb.KindFrom(kind=FILLS, height=7)], history=[FILLS]
    ),
}


async def test_bad_requests_are_refused_without_a_traceback(
    node: NodeDirectory, tmp_path: Path
) -> None:
    only = ("--kinds", ",".join(MARKET_KINDS))
    with GatewayProcess(node.root, log=tmp_path / "gateway.log", options=only) as gateway:
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stream = channel.unary_stream(STREAM)
            for why, request in REQUESTS.items():
                with pytest.raises(grpc.aio.AioRpcError, match=why) as refused:
                    await stream(request.SerializeToString(), timeout=DEADLINE_S).read()
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            service = STREAM.rpartition("/")[0]
            for method in ("StreamBlocks", "Checkpoint"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_stream(f"{service}/{method}")(b"\xff" * 9).read()
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            for method in ("Info", "Evm", "Status"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary(f"{service}/{method}")(b"\xff" * 9)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(f"{service}/Nonsense")(b"")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        # Not even HTTP.
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(os.urandom(4096))
        assert await asyncio.wait_for(reader.read(1 << 20), DEADLINE_S) is not None
        writer.close()
        async with following(gateway_link(gateway.address, scratch=tmp_path)) as delivered:
            write(node, 101)
            await delivered.until(lambda: 101 in delivered.heights(FILLS))
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.text


async def test_kinds_that_a_gateway_does_not_serve_are_left_out(
    node: NodeDirectory, tmp_path: Path
) -> None:
    only = ("--kinds", ",".join(MARKET_KINDS))
    with GatewayProcess(node.root, log=tmp_path / "gateway.log", options=only) as gateway:
        link = gateway_link(gateway.address, scratch=tmp_path, kinds=NODE_FILES)
        async with following(link) as delivered:
            node.write(FILLS, BY_BLOCK, node_line(101) + b"\n")
            await delivered.until(lambda: 101 in delivered.heights(FILLS))
        assert set(link.state()["not_served"]) == set(NODE_FILES) - set(MARKET_KINDS)
        # One that a later version may have.
        kinds = [pb.KindFrom(kind=name) for name in ("node_of_2030", FILLS)]
        request = pb.StreamBlocksRequest(kinds=kinds, history=["node_of_2030"])
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            call = channel.unary_stream(STREAM)(request.SerializeToString())
            starts = pb.StreamBlocksResponse.FromString(await call.read()).starts
            assert [start.kind for start in starts] == [FileKind.FILLS]
            call.cancel()


async def test_a_link_waits_for_a_gateway_that_is_not_there_yet(
    node: NodeDirectory, tmp_path: Path
) -> None:
    gateway = GatewayProcess(node.root, log=tmp_path / "gateway.log")
    gateway.port = free_port()
    link = gateway_link(gateway.address, scratch=tmp_path)
    async with following(link, joined=False) as delivered:
        await delivered.until(lambda: link.state()["errors"] > 1)
        with gateway:
            await delivered.until(lambda: link.state()["connected"])
            write(node, 101)
            await delivered.until(lambda: 101 in delivered.heights(FILLS))


async def test_other_kinds_pass_too(node: NodeDirectory, tmp_path: Path) -> None:
    kinds = (FileKind.MISC, FileKind.TWAP, FileKind.WRITER, FileKind.HIP3_ORACLE)
    for kind in kinds:
        node.write(kind, BY_BLOCK, node_line(100) + b"\n")
    with GatewayProcess(node.root, log=tmp_path / "gateway.log") as gateway:
        link = gateway_link(gateway.address, scratch=tmp_path, kinds=kinds)
        async with following(link) as delivered:
            for kind in kinds:
                node.write(kind, BY_BLOCK, node_line(101, kind) + b"\n")
            await delivered.until(lambda: len(delivered.blocks) == 4)
    assert {block.kind: block.lines for block in delivered.blocks} == {
        kind: [node_line(101, kind)] for kind in kinds
    }


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--listen", "nowhere"), 2, "HOST:PORT"),
        (("--tls-cert", "/x"), 2, "belong together"),
        (("--tls-client-ca", "/x"), 2, "needs --tls-cert"),
        (("--tls-cert", "/none", "--tls-key", "/none"), 1, "TLS file"),
        (("--kinds", "trades"), 2, "known are"),
        (("--memory-mib", "1"), 2, "at least"),
        (("--info", "ftp://x"), 2, "http address"),
    ],
)
def test_bad_options_are_one_line(
    node: NodeDirectory, tmp_path: Path, options: tuple[str, ...], code: int, says: str
) -> None:
    gateway = GatewayProcess(node.root, log=tmp_path / "gateway.log", options=options)
    with pytest.raises(RuntimeError, match=f"exited with {code}"), gateway:
        pass
    assert says in gateway.text
    assert "Traceback" not in gateway.text


def test_a_second_gateway_on_the_same_port_is_refused(
    node: NodeDirectory, gateway: GatewayProcess, tmp_path: Path
) -> None:
    second = GatewayProcess(node.root, log=tmp_path / "second.log")
    second.port = gateway.port
    with pytest.raises(RuntimeError, match="exited with 1"), second:
        pass
    assert "cannot listen" in second.text
    assert "Traceback" not in second.text


async def test_an_open_block_of_fills_passes_before_it_closes(tmp_path: Path) -> None:
    node = NodeDirectory(tmp_path / "hl" / "data")
    write(node, 1, mode=FileMode.STREAMING)
    with GatewayProcess(node.root, log=tmp_path / "gateway.log") as gateway:
        link = gateway_link(gateway.address, scratch=tmp_path)
        async with following(link) as delivered:
            node.write(FILLS, FileMode.STREAMING, node_line(2, "a") + b"\n")
            await delivered.until(lambda: delivered.open)
            assert (delivered.open[0].height, len(delivered.open[0].lines)) == (2, 1)
            node.write(FILLS, FileMode.STREAMING, node_line(2, "b") + b"\n")
            await delivered.until(lambda: len(delivered.open[-1].lines) == 2)
            assert 2 not in delivered.heights(FILLS)
            write(node, 3, mode=FileMode.STREAMING)
            await delivered.until(lambda: 2 in delivered.heights(FILLS))
    closed = next(b for b in delivered.blocks if b.kind is FILLS and b.height == 2)
    assert closed.lines == delivered.open[1].lines
