"""Which `/info` requests make which WebSocket frame. Pure.

Source: the official subscriptions and `/info` pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from streaming.core.catalogue import Catalogue
from streaming.core.dialects.official import channel_of, is_spot
from streaming.core.topic import Kind, Topic

Request = bytes  # the body of one /info request, the same bytes for the same question

#: Times that move whatever else does.
CLOCKS = frozenset({"time", "serverTime"})
#: Somebody with no account: the answer is empty but valid, which tells that the type is served.
NOBODY = "0x" + "0" * 40


class Unusable(Exception):
    """The answer is not what was asked for; its argument is the reason to count."""


def requests_of(topic: Topic, dexes: Iterable[str]) -> tuple[Request, ...]:
    """The requests whose answers together make the topic's frame. `dexes` are the builders'.

    Raises KeyError for a kind that is not polled.
    """
    user, dex = topic.user, topic.dex
    match topic.kind:
        case Kind.CLEARINGHOUSE_STATE:
            return (_request("clearinghouseState", user=user, dex=dex),)
        case Kind.ALL_DEXS_CLEARINGHOUSE_STATE:
            every = ["", *sorted(dexes)]
            return tuple(_request("clearinghouseState", user=user, dex=each) for each in every)
        case Kind.SPOT_STATE:
            return (_request("spotClearinghouseState", user=user),)
        case Kind.OPEN_ORDERS:
            return (_request("frontendOpenOrders", user=user, dex=dex),)
        case Kind.WEB_DATA2:
            return (_request("webData2", user=user),)
        case Kind.ACTIVE_ASSET_DATA:
            return (_request("activeAssetData", user=user, coin=topic.coin),)
        case Kind.ACTIVE_ASSET_CTX if is_spot(topic.coin):
            return (_request("spotMetaAndAssetCtxs"),)
        case Kind.ACTIVE_ASSET_CTX:
            prefix, colon, _ = topic.coin.partition(":")
            return (_request("metaAndAssetCtxs", dex=prefix if colon else ""),)
    raise KeyError(topic.kind)


def frame_of(topic: Topic, bodies: list[bytes], *, dexes: list[str]) -> tuple[bytes, int]:
    """The topic's WebSocket text, and its block time in ms (0 where the answer has none).

    `bodies` are the answers to `requests_of`, in that order, and `dexes` whose they are. They go
    into the frame as they came. Raises Unusable, KeyError, TypeError or ValueError for an answer
    that is not what was asked for.
    """
    user, body = topic.user.encode(), bodies[0]
    # An answer's shape is checked before it is wrapped: what is wrong is not passed on.
    wants_list = topic.kind in (Kind.OPEN_ORDERS, Kind.ACTIVE_ASSET_CTX)
    decoded = [decode(each) for each in bodies]
    if not all(isinstance(each, list if wants_list else dict) for each in decoded):
        raise Unusable("bad_answer")
    block_ms = 0
    match topic.kind:
        case Kind.CLEARINGHOUSE_STATE:
            block_ms = int(decoded[0]["time"])
            data = b'{"dex":%b,"user":"%b","clearinghouseState":%b}' % (
                orjson.dumps(topic.dex),
                user,
                body,
            )
        case Kind.ALL_DEXS_CLEARINGHOUSE_STATE:
            block_ms = min(int(each["time"]) for each in decoded)
            states = b",".join(
                b"[%b,%b]" % (orjson.dumps(dex), each)
                for dex, each in zip(dexes, bodies, strict=True)
            )
            data = b'{"user":"%b","clearinghouseStates":[%b]}' % (user, states)
        case Kind.SPOT_STATE:
            decoded[0]["balances"]
            data = b'{"user":"%b","spotState":%b}' % (user, body)
        case Kind.OPEN_ORDERS:
            data = b'{"dex":%b,"user":"%b","orders":%b}' % (orjson.dumps(topic.dex), user, body)
        case Kind.WEB_DATA2:
            block_ms = int(decoded[0]["serverTime"])
            data = body
        case Kind.ACTIVE_ASSET_DATA:
            decoded[0]["availableToTrade"]
            data = body
        case _:
            data = _context(topic.coin, decoded[0])
    return b'{"channel":"%b","data":%b}' % (channel_of(topic).encode(), data), block_ms


def _context(coin: str, answer: list[Any]) -> bytes:
    meta, ctxs = answer
    if is_spot(coin):
        # The universe of spot has gaps and its contexts are in another order: they name their coin.
        [ctx, *_] = [each for each in ctxs if each["coin"] == coin]
    else:
        names = [each["name"] for each in meta["universe"]]
        if len(names) != len(ctxs):
            raise Unusable("bad_answer")
        ctx = ctxs[names.index(coin)]
    return orjson.dumps({"coin": coin, "ctx": ctx})


def _request(kind: str, **fields: str) -> Request:
    # The main dex is not named: nodes of before builder dexes do not know the field.
    return orjson.dumps({"type": kind} | {key: value for key, value in fields.items() if value})


def types_of(topic: Topic) -> set[str]:
    """The request types that a node must answer to serve the topic."""
    return {orjson.loads(request)["type"] for request in requests_of(topic, ())}


def dex_of(request: Request) -> str:
    """The dex a request asks about; empty for the main one."""
    return str(orjson.loads(request).get("dex", ""))


def probes(catalogue: Catalogue) -> list[tuple[str, Request]]:
    """A question of each type, about nobody, by type; nothing of assets while none is known."""
    perps = [coin for coin in catalogue.coins if coin.isalnum()]
    found = [
        (kind, _request(kind, user=NOBODY))
        for kind in ("clearinghouseState", "spotClearinghouseState", "frontendOpenOrders")
    ]
    found += [("webData2", _request("webData2", user=NOBODY))]
    found += [(kind, _request(kind)) for kind in ("metaAndAssetCtxs", "spotMetaAndAssetCtxs")]
    if perps:
        asset = _request("activeAssetData", user=NOBODY, coin=min(perps))
        found.append(("activeAssetData", asset))
    return found


def decode(body: bytes) -> Any:
    """The answer's object or list. Raises Unusable."""
    try:
        value = orjson.loads(body)
    except ValueError:
        raise Unusable("not_json") from None
    if not isinstance(value, dict | list):
        raise Unusable("bad_answer")
    return value


def time_ms_of(answer: Any) -> int:
    """The block time of an answer; 0 where it has none."""
    for clock in CLOCKS & answer.keys() if isinstance(answer, dict) else ():
        if type(answer[clock]) is int:
            return int(answer[clock])
    return 0


def digest_of(payload: bytes) -> bytes:
    """What a frame says but for the time; equal frames need not be sent twice."""
    still = orjson.dumps(_without_clocks(orjson.loads(payload)))
    return hashlib.blake2b(still, digest_size=16).digest()


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clocks(each) for key, each in value.items() if key not in CLOCKS}
    return [_without_clocks(each) for each in value] if isinstance(value, list) else value
