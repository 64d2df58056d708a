"""The relay's own dialect: the official frames with fields of ours, and the channel `relay`.

Spoken to those who ask for it (`?relay=1` or subprotocol `hlrelay.v1`). Field by field in
`docs/relay-dialect.md`; `docs/relay-dialect.schema.json` is tested against every frame.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from streaming.core import cursor as cursors
from streaming.core.blocks import FileKind
from streaming.core.catalogue import Catalogue
from streaming.core.cursor import BadCursor, Cursor
from streaming.core.dialects import official
from streaming.core.envelope import Position, end_of
from streaming.core.streams import OnSlow
from streaming.core.topic import COIN_PATTERN, DEFAULT_LEVELS, MAX_LEVELS, Kind, Topic

SUBPROTOCOL = "hlrelay.v1"
#: Topics of one subscription that are named one by one.
MAX_NAMES = 1_000
#: Topics of one subscription: as many as one cursor can name.
MAX_TOPICS = cursors.MAX_OTHERS
MAX_ID_CHARACTERS = 64
MAX_AGE_MS = 3_600_000
MARKET_TYPES = ("perp", "hip3", "spot", "outcome")
NEAR_MATCHES = 3
NEIGHBOURS = 6

NOT_IN_LOG = "not in the replay log"
TOO_SLOW = "you read too slowly"
TOO_OLD = "the replay log does not reach back that far"
AHEAD = "it is ahead of the newest block"
SOURCE_BEGAN_AGAIN = "the source began again"

_OWN_KINDS = (Kind.L2_DIFF, Kind.L4_DIFF, Kind.RAW)
_TYPES = tuple(sorted({*(kind.value for kind in Kind), "user"}))
_METHODS = ("subscribe", "unsubscribe", "ping", "post")
_KNOWN_FIELDS = frozenset(
    {"method", "id", "subscription", "from", "onSlow", "maxAgeMs", "flush", "request"}
)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


class Refusal(ValueError):
    """The request cannot be done. `code` is stable; the message is one line for people; `fields`
    go into the error frame."""

    def __init__(self, code: str, msg: str, **fields: Any) -> None:
        super().__init__(msg)
        self.code = code
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Start:
    """Where a resumed subscription begins: a cursor, or a block time in ms since 1970."""

    cursor: Cursor | None = None
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A wish to follow `topics` under one id. `id_json` is b"" when none was given."""

    id_json: bytes
    topics: tuple[Topic, ...]
    echo: str
    start: Start | None = None
    on_slow: OnSlow = OnSlow.CONFLATE
    max_age_ms: int | None = None
    ignored: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A wish to end a subscription, by its id or by what it follows."""

    id_json: bytes
    echo: str


Request = Subscribe | Unsubscribe | official.Ping | official.Post


# --- frame in → request ---


def parse(text: str, catalogue: Catalogue) -> Request:
    """What one client frame asks for. Raises Refusal; `fields["id"]` is the request's id."""
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refusal("bad_json", f"Not JSON at position {error.pos}: {error.msg}.") from None
    if not isinstance(frame, dict):
        raise Refusal("bad_json", "A frame is a JSON object.")
    return request_of(frame, text, catalogue)


def request_of(frame: dict[str, Any], text: str, catalogue: Catalogue) -> Request:
    """What a frame that was read asks for; `text` is what it was read from, of a `post`. Raises
    Refusal as `parse` does."""
    id_json = _id(frame)
    try:
        return _request(frame, id_json, text, catalogue)
    except Refusal as refusal:
        if id_json:
            refusal.fields.setdefault("id", orjson.loads(id_json))
        raise


def _id(frame: dict[str, Any]) -> bytes:
    value = frame.get("id")
    if value is None:
        return b""
    if type(value) is int and 0 <= value < 2**53:
        return orjson.dumps(value)
    if isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARACTERS:
        return orjson.dumps(value)
    raise Refusal(
        "bad_field",
        f"id is a number from 0 to 2^53-1 or a string of 1 to {MAX_ID_CHARACTERS} characters.",
        field="id",
    )


def _request(frame: dict[str, Any], id_json: bytes, text: str, catalogue: Catalogue) -> Request:
    method = frame.get("method")
    match method:
        case "subscribe":
            return _subscribe(frame, id_json, catalogue)
        case "unsubscribe":
            if frame.get("subscription") is None and id_json:
                return Unsubscribe(id_json, "")
            _, echo, _ = parse_subscription(frame.get("subscription"), catalogue)
            return Unsubscribe(id_json, echo)
        case "ping":
            return official.Ping()
        case "post":
            post = official.parse(text)
            if isinstance(post, official.Post):
                return post
            raise Refusal("bad_field", "post needs an id and a request of type info or action.")
    raise Refusal(
        "unknown_method",
        f"method is one of {', '.join(_METHODS)}.",
        field="method",
        **_near(method, _METHODS),
    )


def _subscribe(frame: dict[str, Any], id_json: bytes, catalogue: Catalogue) -> Subscribe:
    topics, echo, ignored = parse_subscription(frame.get("subscription"), catalogue)
    on_slow = frame.get("onSlow")
    if on_slow is not None and on_slow not in tuple(OnSlow):
        raise Refusal("bad_field", f"onSlow is one of {', '.join(OnSlow)}.", field="onSlow")
    flush = frame.get("flush")
    if flush is not None and flush not in ("block", "event"):
        raise Refusal("bad_field", "flush is block or event.", field="flush")
    if flush == "event":
        if topics[0].kind is not Kind.TRADES:
            msg = f"flush: event is for trades; a frame of {topics[0].kind} is a whole block."
            raise Refusal("bad_field", msg, field="flush")
        topics = tuple(topic._replace(by_event=True) for topic in topics)
    max_age_ms = frame.get("maxAgeMs")
    if max_age_ms is not None and not (type(max_age_ms) is int and 1 <= max_age_ms <= MAX_AGE_MS):
        raise Refusal(
            "bad_field", f"maxAgeMs is a whole number from 1 to {MAX_AGE_MS}.", field="maxAgeMs"
        )
    unknown = tuple(sorted(str(name)[:48] for name in frame.keys() - _KNOWN_FIELDS))
    return Subscribe(
        id_json,
        topics,
        echo,
        start=_start(frame.get("from")),
        on_slow=OnSlow(on_slow) if on_slow else OnSlow.CONFLATE,
        max_age_ms=max_age_ms,
        ignored=(*ignored, *unknown[:8]),
    )


def _start(value: Any) -> Start | None:
    match value:
        case None:
            return None
        case str():
            try:
                return Start(cursor=cursors.decode(value))
            except BadCursor as bad:
                raise Refusal("bad_cursor", f"from: {bad}.", field="from") from None
        case {"height": int() as height, **rest} if (
            not rest and type(height) is int and 0 < height < 2**53
        ):
            return Start(cursor=Cursor(cursors.NODE, end_of(height - 1)))
        case {"ms": int() as since_ms, **rest} if (
            not rest and type(since_ms) is int and 0 <= since_ms < 2**53
        ):
            return Start(since_ms=since_ms)
    raise Refusal(
        "bad_cursor",
        'from is a cursor, {"height":n} or {"ms":n} with n a positive whole number.',
        field="from",
    )


def parse_subscription(
    subscription: Any, catalogue: Catalogue
) -> tuple[tuple[Topic, ...], str, tuple[str, ...]]:
    """The topics a subscription object names, its normalised compact JSON, and the fields that mean
    nothing here. Raises Refusal."""
    if not isinstance(subscription, dict):
        raise Refusal("bad_field", "subscription is a JSON object.", field="subscription")
    kind = subscription.get("type")
    if kind not in _TYPES:
        raise Refusal(
            "unknown_type",
            f"There is no subscription type {_short(kind)}.",
            field="type",
            **_near(kind, _TYPES),
        )
    for many, one in (("coins", "coin"), ("users", "user")):
        if many in subscription:
            if one in subscription:
                raise Refusal("bad_field", f"Give {one} or {many}, not both.", field=many)
            return _of_many(subscription, many, one, catalogue)
    if _wants_market(subscription, kind):
        return _of_market(subscription, catalogue)
    topic, echo = _one(subscription)
    _check_names(topic, catalogue)
    ignored = tuple(sorted(subscription.keys() - orjson.loads(echo).keys()))[:8]
    return (topic,), echo, ignored


def _wants_market(subscription: dict[str, Any], kind: Any) -> bool:
    """Whether it takes a coin and names none: then all coins of its market types are meant."""
    if "coin" in subscription or kind == Kind.RAW:
        return False
    if "marketTypes" in subscription:
        return True
    return kind in (
        Kind.TRADES, Kind.BBO, Kind.L2_BOOK, Kind.L2_DIFF, Kind.L4_DIFF, Kind.CANDLE,
        Kind.ACTIVE_ASSET_CTX,
    )  # fmt: skip


def _of_many(
    subscription: dict[str, Any], many: str, one: str, catalogue: Catalogue
) -> tuple[tuple[Topic, ...], str, tuple[str, ...]]:
    names = subscription[many]
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MAX_NAMES
        or not all(isinstance(name, str) for name in names)
    ):
        raise Refusal("bad_field", f"{many} is a list of 1 to {MAX_NAMES} strings.", field=many)
    rest = {name: value for name, value in subscription.items() if name != many}
    return _joined(rest, list(dict.fromkeys(names)), many, one, catalogue)


def _of_market(
    subscription: dict[str, Any], catalogue: Catalogue
) -> tuple[tuple[Topic, ...], str, tuple[str, ...]]:
    wanted = subscription.get("marketTypes", ["perp"])
    if (
        not isinstance(wanted, list)
        or not wanted
        or not all(isinstance(name, str) and name in MARKET_TYPES for name in wanted)
    ):
        raise Refusal(
            "bad_field",
            f"marketTypes is a list of {', '.join(MARKET_TYPES)}.",
            field="marketTypes",
        )
    coins = sorted(coin for coin in catalogue.coins if market_type(coin) in wanted)
    if not coins:
        raise Refusal(
            "not_ready", "The coins of these markets are not known yet: try again.",
            field="marketTypes",
        )  # fmt: skip
    rest = {name: value for name, value in subscription.items() if name != "marketTypes"}
    topics, echo, ignored = _joined(rest, coins, "coins", "coin", catalogue)
    normal = orjson.loads(echo)
    del normal["coins"]
    normal["marketTypes"] = [name for name in MARKET_TYPES if name in wanted]
    return topics, _compact(normal), ignored


def _joined(
    rest: dict[str, Any], names: list[str], many: str, one: str, catalogue: Catalogue
) -> tuple[tuple[Topic, ...], str, tuple[str, ...]]:
    topics: dict[Topic, None] = {}
    normal: dict[str, Any] = {}
    for name in names:
        topic, echo = _one({**rest, one: name})
        _check_names(topic, catalogue)
        topics[topic] = None
        if not normal:
            normal = orjson.loads(echo)
    if len(topics) > MAX_TOPICS:
        msg = f"{len(topics)} {many} are meant; a subscription takes up to {MAX_TOPICS}."
        raise Refusal("bad_field", msg, field=many)
    if one not in normal:
        raise Refusal("bad_field", f"{rest.get('type')} takes no {one}.", field=many)
    listed = [getattr(topic, one) for topic in topics]
    echoed = {(many if key == one else key): value for key, value in normal.items()}
    echoed[many] = listed
    return tuple(topics), _compact(echoed), tuple(sorted(rest.keys() - normal.keys()))[:8]


def _one(subscription: dict[str, Any]) -> tuple[Topic, str]:
    kind = subscription.get("type")
    if kind in _OWN_KINDS:
        return _own(Kind(kind), subscription)
    try:
        return official.parse_subscription(subscription)
    except official.InvalidSubscription as invalid:
        raise Refusal(
            "bad_field", f"A value is out of range: {invalid}", field="subscription"
        ) from None
    except official.BadSubscription as bad:
        named = str(bad).split(" ", 1)[0]
        raise Refusal("bad_field", f"subscription: {bad}.", field=named) from None


def _own(kind: Kind, subscription: dict[str, Any]) -> tuple[Topic, str]:
    coin = subscription.get("coin", "" if kind is Kind.RAW else None)
    if not isinstance(coin, str) or not (
        COIN_PATTERN.match(coin) or (not coin and kind is Kind.RAW)
    ):
        raise Refusal("bad_field", "coin is the name of a coin.", field="coin")
    if kind is Kind.L4_DIFF:
        return Topic(kind, coin), _compact({"type": kind, "coin": coin})
    if kind is Kind.RAW:
        stream = subscription.get("stream")
        if stream not in tuple(FileKind):
            raise Refusal(
                "bad_field",
                f"stream is one of {', '.join(FileKind)}.",
                field="stream",
                **_near(stream, tuple(FileKind)),
            )
        normal = {"type": kind, "stream": stream, **({"coin": coin} if coin else {})}
        return Topic(kind, coin, stream=stream), _compact(normal)
    levels = subscription.get("nLevels")
    official_book = {**subscription, "type": "l2Book", "fast": False}
    topic, echo = _one(official_book)
    topic = topic._replace(kind=kind, n_levels=levels or DEFAULT_LEVELS)
    normal = orjson.loads(echo)
    normal.pop("fast", None)
    normal |= {"type": kind, "nLevels": min(topic.n_levels, MAX_LEVELS)}
    return topic, _compact(normal)


def _check_names(topic: Topic, catalogue: Catalogue) -> None:
    if topic.kind is Kind.RAW or catalogue.knows(topic):
        return
    if topic.coin:
        near = _near(topic.coin, catalogue.coins)
        raise Refusal(
            "unknown_coin", f"There is no coin {_short(topic.coin)}.", coin=topic.coin, **near
        )
    near = _near(topic.dex, catalogue.dexes)
    raise Refusal("unknown_dex", f"There is no dex {_short(topic.dex)}.", dex=topic.dex, **near)


def market_type(coin: str) -> str:
    """Which market a coin's name belongs to."""
    if coin.startswith("#"):
        return "outcome"
    if coin.startswith("@") or "/" in coin:
        return "spot"
    return "hip3" if ":" in coin else "perp"


def _near(value: Any, known: Iterable[str]) -> dict[str, Any]:
    """The names that look like `value`; whole names first that differ in case alone.

    Only its neighbours in the alphabet are compared: all 1,100 coins took up to 3.6 ms of the
    loop that serves everybody, these at most 0.3, and a refused name costs the asker nothing.
    """
    if not isinstance(value, str) or not value:
        return {}
    text = value[:48].casefold()
    folded, names = _alphabet(frozenset(known))
    at = bisect_left(folded, text)
    around = range(max(at - NEIGHBOURS, 0), min(at + NEIGHBOURS, len(folded)))
    by_fold = {folded[number]: names[number] for number in around}
    close = difflib.get_close_matches(text, list(by_fold), n=NEAR_MATCHES)
    return {"near": [by_fold[fold] for fold in close]} if close else {}


@lru_cache(maxsize=8)
def _alphabet(known: frozenset[str]) -> tuple[list[str], list[str]]:
    """Names in the order of their small letters, and those."""
    pairs = sorted((name.casefold(), name) for name in known)
    return [fold for fold, _ in pairs], [name for _, name in pairs]


def _short(value: Any) -> str:
    return _compact(value)[:60] if isinstance(value, str) else "(not a string)"


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()


# --- outcome → bytes ---


def event(type_: str, id_json: bytes = b"", **fields: Any) -> bytes:
    """A frame of the channel `relay`. `id_json` is b"" where it concerns the whole connection."""
    id_part = b',"id":' + id_json if id_json else b""
    rest = orjson.dumps(fields)[1:-1]
    return b'{"channel":"relay","data":{"type":"%b"%b%b%b}}' % (
        type_.encode(),
        id_part,
        b"," if rest else b"",
        rest,
    )


def acknowledged(method: str, id_json: bytes, echo: str) -> bytes:
    """The official ack with the subscription's id."""
    return official.acknowledged(method, echo)[:-1] + b',"id":' + id_json + b"}"


def error(refusal: Refusal) -> bytes:
    """What cannot be done, and why."""
    fields = dict(refusal.fields)
    id_json = orjson.dumps(fields.pop("id")) if "id" in fields else b""
    return event("error", id_json, code=refusal.code, msg=str(refusal), **fields)


def notice(code: str, msg: str, id_json: bytes = b"") -> bytes:
    """Something to know; nothing is refused."""
    return event("notice", id_json, code=code, msg=msg)


def allowance_notice(code: str, msg: str, **fields: Any) -> bytes:
    """How an allowance stands: `allowance_used` at a threshold, `quota_exhausted` at its end."""
    return event("notice", code=code, msg=msg, **fields)


def gap(
    id_json: bytes,
    topic: Topic,
    *,
    begin: tuple[str, Position],
    end: tuple[str | None, Position] | None,
    reason: str,
) -> bytes:
    """Frames after `begin`, up to and with `end`, are lost (None: up to the next frame). The cursor
    of `end` is None where the one that the customer has stays the best."""
    fields: dict[str, Any] = {"from": begin[0], "to": end[0] if end else None}
    fields["fromHeight"] = begin[1].height
    fields["toHeight"] = end[1].height if end else None
    return event("gap", id_json, **named(topic), **fields, reason=reason)


def resync(id_json: bytes, topic: Topic, *, epoch: str, reason: str) -> bytes:
    """Numbering begins again, in a new epoch."""
    return event("resync", id_json, **named(topic), epoch=epoch, reason=reason)


def resume_failed(
    id_json: bytes,
    topic: Topic,
    *,
    oldest: str | None,
    oldest_height: int | None,
    reason: str,
) -> bytes:
    """The topic is not followed: what was asked for is gone. `oldest` can be resumed from."""
    return event(
        "resumeFailed",
        id_json,
        **named(topic),
        oldest=oldest,
        oldestHeight=oldest_height,
        reason=reason,
    )


def replay_complete(id_json: bytes) -> bytes:
    """What comes now is live."""
    return event("replayComplete", id_json)


def stale(id_json: bytes, age_ms: float, topic: Topic | None = None, reason: str = "") -> bytes:
    """What is served is older than was asked for; with a topic: nobody serves it now."""
    return event("stale", id_json, ageMs=round(age_ms), **_about(topic, reason))


def fresh(id_json: bytes, age_ms: float, topic: Topic | None = None) -> bytes:
    """It is not any more."""
    return event("fresh", id_json, ageMs=round(age_ms), **_about(topic, ""))


def _about(topic: Topic | None, reason: str) -> dict[str, str]:
    about = named(topic) if topic is not None else {}
    return about | ({"reason": reason} if reason else {})


def going_away(in_ms: int) -> bytes:
    """The connection will be closed: open another, and resume there."""
    return event("goingAway", inMs=in_ms)


def slow(id_json: bytes, cursor: str) -> bytes:
    """The connection is closed with 4008: resume there."""
    return event("slow", id_json, cursor=cursor)


def named(topic: Topic) -> dict[str, str]:
    """A topic's fields in an event frame."""
    fields = {"topic": topic.kind.value, "coin": topic.coin, "user": topic.user, "dex": topic.dex}
    return {key: value for key, value in fields.items() if value}
