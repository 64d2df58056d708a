"""The python SDK, unchanged but for the base URL: prints what it was given as one JSON object.

python client.py http://host:port/<key> COIN FRAMES DEADLINE_S
"""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict
from typing import Any

from hyperliquid.info import Info


def main(base_url: str, coin: str, frames: int, deadline_s: float) -> None:
    """Subscribe to everything the relay serves, wait for `frames` of each, print them."""
    got: dict[str, list[Any]] = defaultdict(list)
    wanted = [
        {"type": "l2Book", "coin": coin},
        {"type": "bbo", "coin": coin},
        {"type": "trades", "coin": coin},
        {"type": "allMids"},
    ]
    is_done = threading.Event()

    def keep(message: Any) -> None:
        got[message["channel"]].append(message["data"])
        if all(len(got[subscription["type"]]) >= frames for subscription in wanted):
            is_done.set()

    info = Info(base_url)
    ids = [info.subscribe(subscription, keep) for subscription in wanted]
    is_complete = is_done.wait(deadline_s)
    coins = [asset["name"] for asset in info.meta()["universe"]]
    book = info.l2_snapshot(coin)
    mids = info.all_mids()
    for subscription, number in zip(wanted, ids, strict=True):
        info.unsubscribe(subscription, number)
    info.disconnect_websocket()
    answers = {"meta": coins, "l2Book": book, "allMids": mids}
    json.dump({"complete": is_complete, "frames": got, "info": answers}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
