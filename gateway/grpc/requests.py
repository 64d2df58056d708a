"""What a client asks of `hlrelay.v1`, in the fields of the relay dialect, which judges it."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.statuses import bad_argument
from streaming.core.dialects.relay import MAX_ID_CHARACTERS
from streaming.core.streams import OnSlow

M = TypeVar("M", bound=Message)

_ON_SLOW = {
    pb.ON_SLOW_CONFLATE: OnSlow.CONFLATE,
    pb.ON_SLOW_SKIP: OnSlow.SKIP,
    pb.ON_SLOW_DISCONNECT: OnSlow.DISCONNECT,
}
_OPTIONAL = (
    ("n_levels", "nLevels"),
    ("n_sig_figs", "nSigFigs"),
    ("mantissa", "mantissa"),
)
_TEXTS = (("interval", "interval"), ("dex", "dex"), ("stream", "stream"))


def read(kind: type[M], data: bytes) -> M:
    """The message in `data`. Raises CallEnds."""
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise bad_argument("request", f"these {len(data)} bytes are no {name}") from None


def subscription_of(asked: pb.Subscribe) -> dict[str, Any]:
    """The subscription object of a subscribe."""
    subscription: dict[str, Any] = {"type": asked.channel}
    for names, one, many in ((asked.coins, "coin", "coins"), (asked.users, "user", "users")):
        if len(names) == 1:
            subscription[one] = names[0]
        elif names:
            subscription[many] = list(names)
    if asked.market_types:
        subscription["marketTypes"] = list(asked.market_types)
    for field, name in _OPTIONAL:
        if asked.HasField(field):
            subscription[name] = getattr(asked, field)
    for field, name in _TEXTS:
        if value := getattr(asked, field):
            subscription[name] = value
    if asked.aggregate_by_time:
        subscription["aggregateByTime"] = True
    return subscription


def subscribe_frame(asked: pb.Subscribe) -> dict[str, Any]:
    """The whole request. Raises CallEnds for values that have no meaning."""
    if not 0 < len(asked.id) <= MAX_ID_CHARACTERS:
        raise bad_argument("subscribe.id", f"1 to {MAX_ID_CHARACTERS} characters")
    frame: dict[str, Any] = {
        "method": "subscribe",
        "id": asked.id,
        "subscription": subscription_of(asked),
    }
    if asked.flush_event:
        frame["flush"] = "event"
    match asked.WhichOneof("from"):
        case "cursor":
            frame["from"] = asked.cursor
        case "height":
            frame["from"] = {"height": asked.height}
        case "ms":
            frame["from"] = {"ms": asked.ms}
    if asked.on_slow:
        if asked.on_slow not in _ON_SLOW:
            raise bad_argument("subscribe.on_slow", f"{asked.on_slow} is none of OnSlow, 0 to 3")
        frame["onSlow"] = _ON_SLOW[asked.on_slow]
    if asked.HasField("max_age_ms"):
        frame["maxAgeMs"] = asked.max_age_ms
    if asked.encoding not in (
        pb.ENCODING_UNSPECIFIED,
        pb.ENCODING_JSON,
        pb.ENCODING_TYPED,
    ):
        raise bad_argument("subscribe.encoding", f"{asked.encoding} is none of Encoding, 0 to 2")
    return frame
