"""A large book becomes a message while everything else goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.grpc import l4_snapshot
from gateway.grpc.generated.hyperliquid import streaming_pb2 as pb

ORDERS = 20_000
#: Of 0.2 s of work in slices of 2 ms; a slower machine takes more.
TURNS = 20


def order(number: int) -> dict[str, Any]:
    return {
        "user": f"0x{number:040x}",
        "coin": "BTC",
        "side": "B" if number % 2 else "A",
        "limitPx": f"{80_000 + number}.5",
        "sz": "0.25",
        "oid": number,
        "timestamp": 1_700_000_000_000 + number,
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "isPositionTpsl": False,
        "reduceOnly": bool(number % 3),
        "orderType": "Limit",
        "tif": "Gtc" if number % 2 else None,
        "cloid": None,
    }


def test_others_have_their_turns_while_a_snapshot_is_made() -> None:
    sides = [[order(n) for n in range(ORDERS)], [order(7)]]
    book = {"coin": "BTC", "time": 5, "height": 9, "levels": sides}
    payload = json.dumps({"channel": "l4Book", "data": {"Snapshot": book}}).encode()

    async def run() -> tuple[bytes, int]:
        turns, making = 0, asyncio.ensure_future(l4_snapshot.message(payload))
        while not making.done():
            await asyncio.sleep(0)
            turns += 1
        return making.result(), turns

    data, turns = asyncio.run(run())
    assert turns > TURNS
    snapshot = pb.L4BookUpdate.FromString(data).snapshot
    assert (snapshot.coin, snapshot.time, snapshot.height) == ("BTC", 5, 9)
    assert [o.oid for o in snapshot.bids] == list(range(ORDERS))
    (only,) = snapshot.asks
    assert only == pb.L4Order(
        user=f"0x{7:040x}",
        coin="BTC",
        side="B",
        limit_px="80007.5",
        sz="0.25",
        oid=7,
        timestamp=1_700_000_000_007,
        trigger_condition="N/A",
        trigger_px="0.0",
        reduce_only=True,
        order_type="Limit",
        tif="Gtc",
    )
