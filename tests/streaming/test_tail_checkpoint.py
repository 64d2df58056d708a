"""Checkpoints: every accepted shape, every refusal, and a node asked over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from streaming.hl_gateway.checkpoint import (
    CheckpointError,
    parse_checkpoint,
    read_checkpoint_file,
    request_checkpoint,
)

BID = {"coin": "BTC", "side": "B", "limitPx": "81307.0", "sz": "0.18385", "oid": 1}
ASK = {"coin": "BTC", "side": "A", "limitPx": "81308.0", "sz": "1.0", "oid": 2, "isTrigger": False}
STOP = {"coin": "BTC", "side": "A", "limitPx": "9.0", "sz": "1.0", "oid": 3, "isTrigger": True}
USER = "0x1c1c270b573d55b68b3d14722b5d5d401511bed0"


def checkpoint(*, users: bool = True) -> bytes:
    def entry(order: dict[str, Any]) -> Any:
        return [USER, order] if users else order

    coins = [["BTC", [[entry(BID)], [entry(ASK), entry(STOP)]]], ["@107", [[], []]]]
    return json.dumps([985148181, coins]).encode()


def test_with_users() -> None:
    height, coins = parse_checkpoint(checkpoint())
    assert height == 985148181
    assert coins == [
        ("BTC", [{**BID, "user": USER}], [{**ASK, "user": USER}]),
        ("@107", [], []),
    ]


def test_without_users() -> None:
    assert parse_checkpoint(checkpoint(users=False)).coins[0] == ("BTC", [BID], [ASK])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"{}", b"[]", b"[1]", b'["BTC",[]]', b"\xff\xfe", checkpoint()[:-1],
        b'[["BTC",[[],[]]]]', b'[1,[["BTC",[[]]]]]', b'[1,[["BTC",[[1],[]]]]]', b"[1.5,[]]",
        b'[1,[["BTC",[[["0x",{"oid":1},3]],[]]]]]',
    ],
)  # fmt: skip
def test_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        parse_checkpoint(data)


def test_files_plain_and_packed(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.json", tmp_path / "a.json.gz"
    plain.write_bytes(checkpoint())
    packed.write_bytes(gzip.compress(checkpoint()))
    assert read_checkpoint_file(plain) == read_checkpoint_file(packed)
    with pytest.raises(CheckpointError, match=r"gone\.json"):
        read_checkpoint_file(tmp_path / "gone.json")
    packed.write_bytes(gzip.compress(checkpoint())[:-20])
    with pytest.raises(CheckpointError, match="cannot read"):
        read_checkpoint_file(packed)
    plain.write_bytes(b"{")
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_checkpoint_file(plain)


def test_the_recorded_snapshot(test_data: Path) -> None:
    path = test_data / "node" / "l4_snapshot_btc_height_985148181.json.gz"
    height, [(coin, bids, asks)] = read_checkpoint_file(path)
    assert (height, coin, len(bids), len(asks)) == (985148181, "BTC", 34_593, 16_758)
    assert bids[0]["limitPx"] == "81307.0"
    assert all(order["user"].startswith("0x") for order in bids + asks)


Answer = Callable[[dict[str, Any]], web.Response]


@asynccontextmanager
async def node_info(answer: Answer) -> AsyncIterator[str]:
    """A node's /info on a free port; yields its base address."""

    async def handle(request: web.Request) -> web.Response:
        return answer(await request.json())

    app = web.Application()
    app.router.add_post("/info", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("suffix", ["", "/", "/info"])
async def test_the_node_is_asked_for_what_a_book_needs(tmp_path: Path, suffix: str) -> None:
    out_path = tmp_path / "new" / "out.json"
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> web.Response:
        asked.append(request)
        Path(request["outPath"]).write_bytes(checkpoint())
        return web.json_response(None)

    async with node_info(answer) as url:
        result = await request_checkpoint(url + suffix, out_path)
    assert result.height == 985148181
    assert asked == [
        {
            "type": "fileSnapshot",
            "request": {
                "type": "l4Snapshots",
                "includeUsers": True,
                "includeTriggerOrders": False,
            },
            "outPath": str(out_path),
            "includeHeightInOutput": True,
        }
    ]


async def test_an_older_file_does_not_pass_for_the_answer(tmp_path: Path) -> None:
    out_path = tmp_path / "out.json"
    out_path.write_bytes(checkpoint())
    async with node_info(lambda request: web.json_response(None)) as url:
        with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*out\.json"):
            await request_checkpoint(url, out_path)


async def test_a_refusal_says_what_the_node_said(tmp_path: Path) -> None:
    refusal = web.Response(status=422, text="Failed to deserialize")
    async with node_info(lambda request: refusal) as url:
        with pytest.raises(CheckpointError, match="answered 422: Failed to deserialize"):
            await request_checkpoint(url, tmp_path / "out.json")


async def test_nobody_there(tmp_path: Path) -> None:
    async with node_info(lambda request: web.Response()) as url:
        pass
    with pytest.raises(CheckpointError, match="gave no checkpoint"):
        await request_checkpoint(url, tmp_path / "out.json")
    with pytest.raises(CheckpointError, match="gave no checkpoint"):
        await request_checkpoint("not an address", tmp_path / "out.json")
    with pytest.raises(CheckpointError, match="absolute"):
        await request_checkpoint(url, "out.json")


async def test_a_node_that_never_answers(tmp_path: Path) -> None:
    hung_up = asyncio.Event()

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(CheckpointError, match=r"within 0\.1 s"):
            await request_checkpoint(f"http://{host}:{port}", tmp_path / "out.json", deadline_s=0.1)
        # The caller gave the connection up as well.
        await asyncio.wait_for(hung_up.wait(), timeout=10)
