"""The stream, and how it comes back."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from hlrelay.items import Event, Gap, Item, Refused, Update
from hlrelay.v1 import relay_pb2 as pb
from hlrelay.v1 import relay_pb2_grpc

FIRST_WAIT_S = 0.1
MAX_WAIT_S = 3.0
AGAIN_S = 0.5
#: A status that coming back does not change.
FATAL = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
#: Refusals of a subscription that pass; one that was not made is asked for again.
PASSING = frozenset({"not_ready", "rate_limited", "replay_limit"})
OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC's own goes up to two minutes: who was away for ten seconds would miss thirty.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Relay:
    """One relay, by its address and a key."""

    def __init__(
        self,
        target: str,
        *,
        key: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = OPTIONS,
    ) -> None:
        """`target` is `host:port`; without `credentials` nothing is encrypted."""
        self.metadata = (("x-api-key", key),)
        self.channel = (
            grpc.insecure_channel(target, options=options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=options)
        )
        self.stub = relay_pb2_grpc.RelayStub(self.channel)

    def close(self) -> None:
        """End everything."""
        self.channel.close()

    def estimate(
        self,
        *subscriptions: pb.Subscribe,
        hours_per_day: float = 24.0,
        connections: int = 1,
        timeout_s: float = 10.0,
    ) -> pb.EstimateCostResponse:
        """What `subscriptions` would bring and cost, from what the relay measured in the last 24
        hours. For keys with the scope `account` or `account_read`, beside `grpc`.

        Raises Refused, and grpc.RpcError for what passes.
        """
        asked = [
            pb.EstimatedSubscription(
                subscription=each, hours_per_day=hours_per_day, connections=connections
            )
            for each in subscriptions
        ]
        request = pb.EstimateCostRequest(subscriptions=asked)
        try:
            return self.stub.EstimateCost(request, metadata=self.metadata, timeout=timeout_s)
        except grpc.RpcError as error:
            refused = _refusal(error)
            if refused is None:
                raise
            raise refused from None

    def stream(self, *subscriptions: pb.Subscribe) -> Iterator[Item]:
        """Updates, gaps and events of `subscriptions`, for ever; each must have an `id`.

        Raises Refused.
        """
        return _Stream(self, subscriptions).run()


class _Stream:
    """The state of one iterator: how far each subscription is."""

    def __init__(self, relay: Relay, subscriptions: Sequence[pb.Subscribe]) -> None:
        self._relay = relay
        self._wanted: dict[str, pb.Subscribe] = {}
        for each in subscriptions:
            if not each.id or each.id in self._wanted:
                raise ValueError(f"each subscription needs an id of its own, not {each.id!r}")
            self._wanted[each.id] = pb.Subscribe()
            self._wanted[each.id].CopyFrom(each)
        self._asked: queue.SimpleQueue[pb.StreamRequest | None] = queue.SimpleQueue()
        self._made: set[str] = set()
        self._parts: dict[str, list[bytes]] = {}
        self._wait_s = FIRST_WAIT_S

    def run(self) -> Iterator[Item]:
        while True:
            asked: queue.SimpleQueue[pb.StreamRequest | None] = queue.SimpleQueue()
            self._asked = asked
            self._parts.clear()
            self._made.clear()
            for each in self._wanted.values():
                self._subscribe(each)
            call = self._relay.stub.Stream(iter(asked.get, None), metadata=self._relay.metadata)
            try:
                for response in call:
                    for envelope in response.envelopes:
                        item = self._take(envelope)
                        if item is not None:
                            self._wait_s = FIRST_WAIT_S
                            yield item
            except grpc.RpcError as error:
                self._rest(error)
            finally:
                asked.put(None)
                call.cancel()

    def _rest(self, error: Any) -> None:
        """Wait before coming back, as long as the relay asks for. Raises Refused."""
        if (refused := _refusal(error)) is not None:
            raise refused from None
        trailing = dict(error.trailing_metadata() or ())
        wait_s = self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
        self._wait_s = min(self._wait_s * 2, MAX_WAIT_S)
        asked_s = str(trailing.get("retry-after", ""))
        time.sleep(max(wait_s, float(asked_s) if asked_s.isdigit() else 0.0))

    def _take(self, envelope: pb.Envelope) -> Item | None:
        name, kind = envelope.sub_id, envelope.WhichOneof("what")
        match kind:
            case "json" if envelope.parts:
                pieces = self._parts.setdefault(name, [])
                pieces.append(envelope.json)
                if envelope.part < envelope.parts:
                    return None
                return self._update(envelope, b"".join(self._parts.pop(name)))
            case "json":
                return self._update(envelope, envelope.json)
            case "trades" | "bbo" | "l2_book":
                return self._update(envelope, b"")
            case "gap":
                gap = envelope.gap
                self._go_on_from(name, gap.to_cursor)
                last = gap.to_height if gap.HasField("to_height") else None
                return _gap(name, gap, gap.from_height, last)
            case "resume_failed":
                failed = envelope.resume_failed
                self._begin_again(name, failed.oldest_cursor)
                last = failed.oldest_height if failed.HasField("oldest_height") else None
                return _gap(name, failed, None, last)
            case "error" if name in self._wanted and envelope.error.code != "not_subscribed":
                if envelope.error.code not in PASSING:
                    raise Refused(envelope.error.code, envelope.error.msg)
                if name not in self._made:
                    time.sleep(AGAIN_S)
                    self._subscribe(self._wanted[name])
            case "subscribed":
                self._made.add(name)
                return None
            case "unsubscribed" | "error" | "pong" | None:
                return None
        return Event(name, str(kind), envelope)

    def _update(self, envelope: pb.Envelope, text: bytes) -> Update:
        self._go_on_from(envelope.sub_id, envelope.cursor)
        return Update(
            envelope.sub_id, envelope.height, envelope.seq, envelope.cursor, text, envelope
        )

    def _go_on_from(self, name: str, cursor: str) -> None:
        wanted = self._wanted.get(name)
        if wanted is not None and cursor:
            wanted.cursor = cursor

    def _begin_again(self, name: str, cursor: str) -> None:
        wanted = self._wanted.get(name)
        if wanted is None:
            return
        wanted.ClearField("from")  # type: ignore[arg-type]
        if cursor:
            wanted.cursor = cursor
        self._asked.put(pb.StreamRequest(unsubscribe=pb.Unsubscribe(id=name)))
        self._subscribe(wanted)

    def _subscribe(self, wanted: pb.Subscribe) -> None:
        request = pb.StreamRequest()
        request.subscribe.CopyFrom(wanted)
        self._asked.put(request)


def _refusal(error: Any) -> Refused | None:
    """Why a call was refused for good; None for what passes."""
    if error.code() not in FATAL:
        return None
    trailing = dict(error.trailing_metadata() or ())
    code = trailing.get("hlrelay-code", error.code().name.lower())
    return Refused(str(code), error.details() or "")


def _gap(name: str, told: Any, first: int | None, last: int | None) -> Gap:
    return Gap(name, told.topic.channel, told.topic.coin, first, last, told.reason)
