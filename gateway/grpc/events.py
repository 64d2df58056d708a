"""The relay dialect's control frames as envelopes. They are rare, so each is read and written anew
instead of being made in two forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb

#: Of an error or notice: what has a field of its own.
_OWN = frozenset({"type", "id", "code", "msg"})


def read(payload: bytes) -> dict[str, Any]:
    """A control frame as its event: `type`, `id` where it has one, and its fields."""
    frame = orjson.loads(payload)
    match frame["channel"]:
        case "relay":
            event: dict[str, Any] = frame["data"]
            return event
        case "subscriptionResponse":
            return {"type": frame["data"]["method"], "id": frame.get("id"), **frame["data"]}
    return {**frame, "type": frame["channel"]}


def envelope(payload: bytes) -> bytes:
    """A control frame as an envelope."""
    event = read(payload)
    name = event.get("id")
    made = pb.Envelope(sub_id="" if name is None else str(name))
    cursor = event.get("to") if event["type"] == "gap" else None
    if cursor:
        made.cursor = cursor
    _MAKERS.get(event["type"], _notice)(made, event)
    return made.SerializeToString()


def _topic(event: dict[str, Any]) -> pb.Topic | None:
    fields = {name: event[name] for name in ("coin", "user", "dex") if name in event}
    return pb.Topic(channel=event["topic"], **fields) if "topic" in event else None


def _gap(made: pb.Envelope, event: dict[str, Any]) -> None:
    made.gap.CopyFrom(
        pb.Gap(
            topic=_topic(event),
            from_cursor=event["from"],
            to_cursor=event["to"] or "",
            from_height=event["fromHeight"],
            to_height=event["toHeight"],
            reason=event["reason"],
        )
    )


def _resume_failed(made: pb.Envelope, event: dict[str, Any]) -> None:
    made.resume_failed.CopyFrom(
        pb.ResumeFailed(
            topic=_topic(event),
            oldest_cursor=event["oldest"] or "",
            oldest_height=event["oldestHeight"],
            reason=event["reason"],
        )
    )


def _stale(made: pb.Envelope, event: dict[str, Any]) -> None:
    age_ms, reason = max(0, event["ageMs"]), event.get("reason", "")
    made.stale.CopyFrom(pb.Stale(topic=_topic(event), age_ms=age_ms, reason=reason))


def _fresh(made: pb.Envelope, event: dict[str, Any]) -> None:
    made.fresh.CopyFrom(pb.Fresh(topic=_topic(event), age_ms=max(0, event["ageMs"])))


def _resync(made: pb.Envelope, event: dict[str, Any]) -> None:
    epoch, reason = event["epoch"], event["reason"]
    made.resync.CopyFrom(pb.Resync(topic=_topic(event), epoch=epoch, reason=reason))


def _error(made: pb.Envelope, event: dict[str, Any]) -> None:
    code, msg = event["code"], event["msg"]
    made.error.CopyFrom(pb.Error(code=code, msg=msg, fields_json=_rest(event)))


def _notice(made: pb.Envelope, event: dict[str, Any]) -> None:
    code, msg = event.get("code", event["type"]), event.get("msg", "")
    made.notice.CopyFrom(pb.Notice(code=code, msg=msg, fields_json=_rest(event)))


def _rest(event: dict[str, Any]) -> str:
    rest = {name: value for name, value in event.items() if name not in _OWN}
    return orjson.dumps(rest).decode() if rest else ""


def _subscription(event: dict[str, Any]) -> str:
    return orjson.dumps(event["subscription"]).decode()


_MAKERS: dict[str, Callable[[pb.Envelope, dict[str, Any]], None]] = {
    "subscribe": lambda made, event: made.subscribed.CopyFrom(
        pb.Subscribed(subscription_json=_subscription(event))
    ),
    "unsubscribe": lambda made, event: made.unsubscribed.CopyFrom(
        pb.Unsubscribed(subscription_json=_subscription(event))
    ),
    "gap": _gap,
    "stale": _stale,
    "fresh": _fresh,
    "resync": _resync,
    "replayComplete": lambda made, _: made.replay_complete.SetInParent(),
    "resumeFailed": _resume_failed,
    "error": _error,
    "goingAway": lambda made, event: made.going_away.CopyFrom(
        pb.GoingAway(in_ms=max(0, event["inMs"]))
    ),
    "pong": lambda made, event: made.pong.CopyFrom(pb.Pong(nonce=event.get("nonce", 0))),
}
