"""The one publisher: the same frames, pace and Redis for all, in the form each subject reads.

`python -m tests.bench.publisher --redis-port P --form plain|layer|relay|market --rate R
--messages N --size B` prints one line of JSON when done or told to stop (SIGTERM): how many it
published, in what time, and how late the latest was.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TypeVar

import redis

from tests.bench import machine, payload

#: Plain Redis pub/sub channel of the subjects that are not ours.
CHANNEL = "bench"
GROUP = "bench"
#: Of a whole market.
COINS = 300
#: What the load client subscribes to at the relay, as a `Topic.name`.
TOPIC = "l2Book BTC 20 0 0 0"
READY_S = 15.0

Send = Callable[[bytes, int], None]
T = TypeVar("T")


class Redis:
    """Publishes without waiting for each reply; Redis keeps the order."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish(self, channel: bytes, message: bytes) -> None:
        """PUBLISH. Raises SystemExit when nobody subscribes the channel any more."""
        head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n" % (
            len(channel),
            channel,
            len(message),
        )
        self._socket.sendall(b"%b%b\r\n" % (head, message))
        try:
            replies = self._socket.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not replies or b":0\r" in replies or b"-" in replies:
            raise SystemExit(f"publisher: Redis answered {replies[:80]!r}")


def plain(port: int) -> Send:
    """The frame itself on a pub/sub channel."""
    wait_for_subscriber(port, CHANNEL)
    connection = Redis(port)
    return lambda frame, number: connection.publish(CHANNEL.encode(), frame)


def relay(port: int) -> Send:
    """The relay's own bus message, as a worker sends it, to the edge that leases the topic."""
    from streaming.bus import keys
    from streaming.core.envelope import (
        VERSION,
        BusMessage,
        Envelope,
        Position,
        Role,
        Times,
        encode,
    )

    edge = wait_for_lease(port, edges_key=keys.EDGES, leases_key=keys.LEASES)
    channel = keys.BUS_CHANNEL.format(edge=edge)
    wait_for_subscriber(port, channel)
    connection = Redis(port)
    channel_bytes = channel.encode()

    def send(frame: bytes, number: int) -> None:
        now_ns = time.time_ns()
        envelope = Envelope(
            topic=TOPIC,
            epoch="bench",
            position=Position(number + 1),
            previous=Position(number),
            role=Role.UPDATE,
            payload=frame,
            times=Times(now_ns, now_ns, now_ns, now_ns),
        )
        connection.publish(channel_bytes, encode(BusMessage(VERSION, "bench", [envelope])))

    return send


def market(port: int) -> Send:
    """A block of `COINS` topics in one bus message, a third of them of the size asked for and the
    rest small."""
    from streaming.bus import keys
    from streaming.core.envelope import VERSION, BusMessage, Envelope, Position, Role, encode

    topics = [TOPIC.replace("BTC", f"C{number}") for number in range(COINS)]
    edge = wait_for_lease(port, edges_key=keys.EDGES, leases_key=keys.LEASES, topics=topics)
    channel = keys.BUS_CHANNEL.format(edge=edge)
    connection = Redis(port)
    channel_bytes = channel.encode()

    def send(frame: bytes, number: int) -> None:
        frames = (frame, *[payload.frame(time.monotonic_ns(), size=payload.SMALL)] * 2)
        envelopes = [
            Envelope(
                topic=topic,
                epoch="n-000000000000",
                position=Position(number + 1),
                previous=Position(number),
                role=Role.UPDATE,
                payload=frames[index % 3],
            )
            for index, topic in enumerate(topics)
        ]
        message = BusMessage(VERSION, "bench", envelopes, number + 1, time.time_ns())
        connection.publish(channel_bytes, encode(message))

    return send


def layer(port: int) -> Send:
    """`group_send` through the channel layer, as the Channels tutorial does it."""
    import asyncio

    from channels_redis.core import RedisChannelLayer

    host = {"address": f"redis://127.0.0.1:{port}", "socket_timeout": None}
    channel_layer = RedisChannelLayer(hosts=[host])
    loop = asyncio.new_event_loop()

    def send(frame: bytes, number: int) -> None:
        event = {"type": "market.message", "text": frame.decode()}
        loop.run_until_complete(channel_layer.group_send(GROUP, event))

    return send


FORMS: dict[str, Callable[[int], Send]] = {
    "plain": plain,
    "relay": relay,
    "layer": layer,
    "market": market,
}


def wait_for_subscriber(port: int, channel: str) -> None:
    """Return once somebody subscribes `channel`. Raises SystemExit after READY_S."""
    client = redis.Redis(port=port, socket_timeout=5)
    _wait(lambda: client.pubsub_numsub(channel)[0][1], f"nobody subscribes {channel}")


def wait_for_lease(
    port: int, *, edges_key: str, leases_key: str, topics: Sequence[str] = (TOPIC,)
) -> str:
    """The edge that leases `topics`. Raises SystemExit when there is none after READY_S."""
    client = redis.Redis(port=port, decode_responses=True, socket_timeout=5)

    def holder() -> str | None:
        edges = sorted(str(edge) for edge in client.smembers(edges_key))
        held = ((e, client.hmget(leases_key.format(edge=e), topics)) for e in edges)
        return next((edge for edge, leases in held if None not in leases), None)

    return str(_wait(holder, f"no edge leases {topics[0]!r} and the like"))


def _wait(ask: Callable[[], T], otherwise: str) -> T:
    deadline_s = time.monotonic() + READY_S
    while not (answer := ask()):
        if time.monotonic() > deadline_s:
            raise SystemExit(f"publisher: {otherwise}")
        time.sleep(0.02)
    return answer


class Pace:
    """Due times `1/rate` apart; being late is caught up with, so the offer stays what it says."""

    def __init__(self, *, rate: float) -> None:
        self.period_ns = 1e9 / rate
        self.start_ns = time.monotonic_ns() + 5_000_000
        self.latest_ns = 0

    def wait(self, number: int) -> None:
        """Return when message `number` is due."""
        due_ns = self.start_ns + int(number * self.period_ns)
        left_ns = due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        else:
            self.latest_ns = max(self.latest_ns, -left_ns)


def main() -> None:
    """Publish what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--form", choices=sorted(FORMS), required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--size", type=int, choices=(payload.SMALL, payload.LARGE), required=True)
    options = parser.parse_args()

    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    machine.sleep_precisely()
    send = FORMS[options.form](options.redis_port)
    gc.freeze()
    gc.disable()
    pace = Pace(rate=options.rate)
    published = 0
    while published < options.messages and not stopped:
        pace.wait(published)
        # Stamped when handed over: a publisher that is held up shows as a rate below the offered.
        send(payload.frame(time.monotonic_ns(), size=options.size), published)
        published += 1
    seconds = (time.monotonic_ns() - pace.start_ns) / 1e9
    json.dump(
        {"published": published, "seconds": seconds, "late_ms": pace.latest_ns / 1e6}, sys.stdout
    )
    print(flush=True)


if __name__ == "__main__":
    main()
