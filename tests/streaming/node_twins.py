"""Two nodes that write the same made-up chain into two folders, and the `/info` both share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from streaming.core.blocks import FileKind
from tests.core import node_events
from tests.streaming.node_lines import BY_BLOCK, NodeDirectory

FIRST_HEIGHT = 1_000


class NodeTwins:
    """Writes each block's fills, book changes and statuses to both folders.

    Every block has one trade of BTC (`tid` = height) and one new bid, so every block makes a frame
    of each BTC topic. `skip` names twins (0, 1) that never write the block.
    """

    def __init__(self, root: Path) -> None:
        self.nodes = [NodeDirectory(root / name / "hl" / "data") for name in ("a", "b")]
        self.height = FIRST_HEIGHT
        self.url = ""
        self._orders: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> NodeTwins:
        app = web.Application()
        app.router.add_post("/info", self._info)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def upstreams(self) -> str:
        """For RELAY_UPSTREAMS."""
        return ",".join(f"node://{node.root}?info={self.url}" for node in self.nodes)

    def write(self, *, skip: tuple[int, ...] = (), lie: int | None = None) -> int:
        """Write the next block and return its height. The twin `lie` writes another size."""
        self.height += 1
        height, now_ms = self.height, time.time_ns() // 1_000_000
        fills = [
            node_events.fill(height, "B", crossed=True, time_ms=now_ms),
            node_events.fill(height, "A", user=node_events.BEN, time_ms=now_ms),
        ]
        px = f"{100 + height % 50}.0"
        oid = height
        self._orders.append(node_events.order(oid, px=px, timestamp=now_ms))
        for number, node in enumerate(self.nodes):
            if number in skip:
                continue
            sz = "2.0" if lie == number else "1.0"
            change = node_events.new(oid, sz, px=px)
            status = node_events.status(oid, time_ms=now_ms, px=px)
            for kind, events in (
                (FileKind.FILLS, fills),
                (FileKind.STATUSES, [status]),
                (FileKind.DIFFS, [change]),
            ):
                body = orjson.loads(node_events.line(height, events, time_ms=now_ms))
                body["local_time"] = node_events.iso(now_ms + 10 * number)  # its own clock
                node.write(kind, BY_BLOCK, orjson.dumps(body) + b"\n")
        return height

    async def _info(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        match body["type"]:
            case "meta":
                return web.json_response({"universe": [{"name": "BTC", "szDecimals": 5}]})
            case "fileSnapshot":
                self._write_checkpoint(Path(body["outPath"]))
                return web.json_response(None)
        return web.json_response({"error": "unknown"}, status=422)

    def _write_checkpoint(self, path: Path) -> None:
        bids = [[node_events.ADA, order] for order in self._orders]
        bids.sort(key=lambda bid: (-float(bid[1]["limitPx"]), bid[1]["oid"]))
        path.write_bytes(orjson.dumps([self.height, [["BTC", [bids, []]]]]))
