"""A node for the HTTP cases: `/info`, `/evm` and `/exchange` with ready answers, on a port of its
own."""

from __future__ import annotations

import sys

import orjson
from aiohttp import web

ROW = b'{"szDecimals":5,"name":"BTC","maxLeverage":40,"marginTableId":56}'
META = b'{"universe":[' + b",".join([ROW] * 24) + b"]}"
DONE = b'{"status":"ok","response":{"type":"default"}}'
BLOCK = {"number": "0x3e8", "hash": "0x" + "ab" * 32, "transactions": ["0x" + "cd" * 32] * 16}
RESULTS = {"eth_blockNumber": "0x3e8", "eth_getBlockByNumber": BLOCK}


async def info(request: web.Request) -> web.Response:
    """1.6 KB."""
    await request.read()
    return web.Response(body=META, content_type="application/json")


async def evm(request: web.Request) -> web.Response:
    """By method; anything else is 1."""
    call = orjson.loads(await request.read())
    answer = {"jsonrpc": "2.0", "id": call["id"], "result": RESULTS.get(call["method"], "0x1")}
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def exchange(request: web.Request) -> web.Response:
    """As a noop is answered."""
    await request.read()
    return web.Response(body=DONE, content_type="application/json")


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/info", info)
    app.router.add_post("/evm", evm)
    app.router.add_post("/exchange", exchange)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
