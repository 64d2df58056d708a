"""The python SDK on user feeds, unchanged but for the base URL: prints what it was given as one
JSON object.

python user_feeds.py http://host:port/<key> USER COIN FRAMES DEADLINE_S
"""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict
from typing import Any

from hyperliquid.info import Info

CHANNELS = {"orderUpdates": "orderUpdates", "userEvents": "user", "userFills": "userFills"}


def main(base_url: str, user: str, coin: str, frames: int, deadline_s: float) -> None:
    """Follow one user and one candle, wait for `frames` of each, print them."""
    got: dict[str, list[Any]] = defaultdict(list)
    wanted: list[Any] = [{"type": kind, "user": user} for kind in CHANNELS]
    wanted.append({"type": "candle", "coin": coin, "interval": "1m"})
    is_done = threading.Event()

    def keep(message: Any) -> None:
        got[message["channel"]].append(message["data"])
        if all(len(got[channel]) >= frames for channel in (*CHANNELS.values(), "candle")):
            is_done.set()

    info = Info(base_url)
    for subscription in wanted:
        info.subscribe(subscription, keep)
    is_complete = is_done.wait(deadline_s)
    info.disconnect_websocket()
    json.dump({"complete": is_complete, "frames": got}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
