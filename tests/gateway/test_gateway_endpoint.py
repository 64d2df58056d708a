"""A node behind an HL Gateway answers as one that is asked directly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.upstreams.posts import Failed, GatewayEndpoint, HttpEndpoint
from tests.gateway.evm_chain import EvmNode
from tests.streaming.gateways import GatewayProcess

META = b'{"universe":[{"px":1.10}]}'
CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'


@pytest.fixture
async def node() -> AsyncIterator[str]:
    """A node's base URL: `/info` knows `meta`, `/evm` its height."""

    async def info(request: web.Request) -> web.Response:
        if json.loads(await request.read())["type"] == "meta":
            return web.Response(body=META, content_type="application/json")
        return web.Response(status=422, body=b"Failed to deserialize", content_type="text/plain")

    app = web.Application()
    app.router.add_post("/info", info)
    app.router.add_post("/evm", EvmNode().answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_bytes_and_statuses_pass_through_a_gateway(node: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    log = tmp_path / "gateway.log"
    with GatewayProcess(tmp_path / "data", log=log, options=("--info", node)) as gateway:
        for name, body in (
            ("info", b'{"type":"meta"}'),
            ("info", b'{"type":"odd"}'),
            ("evm", CALL),
        ):
            behind = GatewayEndpoint(gateway.address, None, name.title())
            directly = HttpEndpoint(f"{node}/{name}")
            got = await behind.post(body, deadline_s=10.0)
            want = await directly.post(body, deadline_s=10.0)
            assert (got.status, got.body) == (want.status, want.body)
            assert got.content_type == want.content_type.split(b";")[0]
            await behind.close()
            await directly.close()
    gone = GatewayEndpoint(gateway.address, None, "Info")
    with pytest.raises(Failed):
        await gone.post(b"{}", deadline_s=2.0)
    await gone.close()
