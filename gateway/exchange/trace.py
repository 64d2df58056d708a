"""What is kept of an order's way: when it came, left, was answered, was in a block, was filled.
Pure: no clock, no Redis.

One trace is one row of an action: an order of a batch has its own. It holds nothing that was
signed: no price, no size, no signature, no body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from gateway.exchange.asked import Asked, BadAction, label_of

#: Rows of one action that are traced; the exchange takes some 100 orders.
MAX_ROWS = 200
#: Of an error's text, of a coin's and of a request's id.
TEXT_CHARS = 160
#: Steps whose time is told, each since the one before: from here to the exchange, to its answer and
#: (since it was sent) to its block, from there to the first fill of what was filled at once.
SENT, ACKED, BLOCK, FILL = STEPS = ("sent", "acked", "block", "fill")
#: Histograms of them have buckets that grow by a tenth.
_FIRST_MS, _GROWTH = 0.01, 1.1
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")

#: How an action ended.
ANSWERED, REFUSED, NOT_SENT, UNKNOWN = "answered", "refused", "not_sent", "unknown"
#: What the relay knows of block and fill.
WAITS, SEEN, UNFOLLOWED, NEVER = "waits", "seen", "unfollowed", "never"

#: Of an order that is not at its end.
ALIVE = frozenset({"open", "triggered"})


class Trace(msgspec.Struct, array_like=True, omit_defaults=False):
    """Times are ms since 1970: `received` to `acked` and `seen_ms` by this host's clock (with
    fractions), the others by the exchange's. `coin` is "" where it was not known, `status` what the
    answer says of this row (`resting`, `filled`, `error`, …), `last_status` what became of it;
    `state` is one of `WAITS` …, and `follower` the process that waits."""

    id: str
    request_id: str
    key_id: int
    key_prefix: str
    kind: str
    place: int
    received_ms: float
    asset: int | None = None
    coin: str = ""
    oid: int | None = None
    cloid: str = ""
    user: str = ""
    outcome: str = ANSWERED
    status: str = ""
    text: str = ""
    sent_ms: float | None = None
    acked_ms: float | None = None
    block_ms: int | None = None
    height: int | None = None
    seen_ms: float | None = None
    fill_ms: int | None = None
    fill_height: int | None = None
    fills: int = 0
    last_status: str = ""
    last_ms: int | None = None
    state: str = NEVER
    follower: str = ""
    warnings: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    """Steps that are counted in the histograms already."""

    @property
    def is_cancel(self) -> bool:
        """Whether its block is the one in which another order ended."""
        return self.kind in ("cancel", "cancelByCloid")

    @property
    def is_waiting(self) -> bool:
        """Whether more may become known of it, as long as somebody follows it."""
        lacks = self.last_status in ALIVE or self.lacks_fill
        return self.state == WAITS or (self.state == SEEN and lacks)

    @property
    def lacks_fill(self) -> bool:
        """Whether it was filled, and none of its fills was seen."""
        is_filled = "filled" in (self.status, self.last_status)
        return is_filled and not self.fills and not self.is_cancel

    def took_ms(self, step: str) -> float | None:
        """How long a step took, None where an end of it is not known."""
        begin, end = {
            SENT: (self.received_ms, self.sent_ms),
            ACKED: (self.sent_ms, self.acked_ms),
            BLOCK: (self.sent_ms, self.block_ms),
            # What rested waited for the market, which is nobody's latency.
            FILL: (self.block_ms, self.fill_ms if self.status == "filled" else None),
        }[step]
        return None if begin is None or end is None else max(0.0, end - begin)


class Row(NamedTuple):
    """One order, cancel or change within an action, and what was answered to it."""

    place: int
    asset: int | None = None
    oid: int | None = None
    cloid: str = ""
    status: str = ""
    text: str = ""


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Trace)


def encode(trace: Trace) -> bytes:
    """As Redis has it."""
    return _encoder.encode(trace)


def decode(data: bytes) -> Trace:
    """What `encode` wrote. Raises msgspec.DecodeError or ValidationError."""
    return _decoder.decode(data)


def id_of(received_ms: float, number: int, process: str) -> str:
    """Ids of a tenant sort by when they came, and of one action by place."""
    return f"{int(received_ms):012x}{number & 0xFFFFFF:06x}{process[:4]}"


def first_id(at_ms: float) -> str:
    """What sorts before every id of that moment and later."""
    return f"{max(0, int(at_ms)):012x}"


# --- what an action and its answer say ------------------------------------------------------------


def rows_of(asked: Asked, answer: bytes | None) -> list[Row]:
    """The rows of an action, with what was answered to each. Never raises: whatever a customer or
    the exchange sends, it was sent."""
    try:
        asked_for = list(_rows(asked))[:MAX_ROWS] or [Row(0)]
    except (BadAction, TypeError, ValueError, KeyError, AttributeError):
        asked_for = [Row(0)]
    if answer is None:
        return asked_for
    try:
        told = _statuses(orjson.loads(answer), len(asked_for))
        return [_answered(row, status) for row, status in zip(asked_for, told, strict=True)]
    except (ValueError, TypeError, KeyError, AttributeError):
        return [row._replace(status="unreadable") for row in asked_for]


def _rows(asked: Asked) -> Iterator[Row]:
    action: Mapping[str, Any] = asked.inner
    match action["type"]:
        case "order":
            for place, row in enumerate(action["orders"]):
                yield Row(place, _int(row.get("a")), None, _cloid(row.get("c")))
        case "cancel":
            for place, row in enumerate(action["cancels"]):
                yield Row(place, _int(row.get("a")), _int(row.get("o")))
        case "cancelByCloid":
            for place, row in enumerate(action["cancels"]):
                yield Row(place, _int(row.get("asset")), None, _cloid(row.get("cloid")))
        case "modify":
            yield _modified(0, action)
        case "batchModify":
            for place, row in enumerate(action["modifies"]):
                yield _modified(place, row)
        case "twapOrder":
            yield Row(0, _int(action["twap"].get("a")))
        case "twapCancel":
            yield Row(0, _int(action.get("a")))
        case _:
            yield Row(0, _int(action.get("asset")))


def _modified(place: int, row: Mapping[str, Any]) -> Row:
    """Which one it was; which one it is then is in the answer, or in the order's cloid."""
    order = row["order"]
    cloid = _cloid(order.get("c")) or _cloid(row.get("oid"))
    return Row(place, _int(order.get("a")), _int(row.get("oid")), cloid)


def _statuses(told: Any, count: int) -> list[Any]:
    """What was answered to each row: the exchange may say one thing for all of them."""
    if told["status"] != "ok":
        return [{"error": str(told.get("response", ""))}] * count
    data = told["response"].get("data") or {}
    statuses = data.get("statuses")
    if isinstance(statuses, list) and len(statuses) == count:
        return statuses
    if isinstance(statuses, list) and len(statuses) == 1:
        return statuses * count  # one error of a whole batch
    return [data.get("status", "ok")] * count


def _answered(row: Row, status: Any) -> Row:
    if isinstance(status, str):
        return row._replace(status=status[:40])
    ((name, told),) = status.items()
    if name == "error":
        return row._replace(status="error", text=str(told)[:TEXT_CHARS])
    if isinstance(told, dict):
        oid, cloid = _int(told.get("oid")), _cloid(told.get("cloid"))
        return row._replace(
            status=str(name)[:40],
            oid=row.oid if oid is None else oid,
            cloid=cloid or row.cloid,
        )
    return row._replace(status=str(name)[:40])


def _int(value: Any) -> int | None:
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return value if is_one and 0 <= value < 2**63 else None


def _cloid(value: Any) -> str:
    return value.lower() if isinstance(value, str) and len(value) == 34 else ""


def kind_of(asked: Asked) -> str:
    """The type of action, of a multi-signature that of what is carried out."""
    try:
        return label_of(asked.inner["type"])
    except BadAction:
        return label_of(asked.kind)


def user_of(asked: Asked, signer: str | None) -> str:
    """Whose orders an action moves, "" where that is not known: a vault's or a multi-signature's
    user, else the signer's, who may be an agent of somebody."""
    named = asked.envelope.get("vaultAddress")
    if asked.kind == "multiSig":
        payload = asked.action.get("payload")
        named = payload.get("multiSigUser") if isinstance(payload, dict) else None
    if isinstance(named, str) and _ADDRESS.fullmatch(named):
        return named.lower()
    return signer or ""


# --- histograms -----------------------------------------------------------------------------------


def bucket_of(ms: float) -> int:
    """Which bucket a time falls into."""
    return 0 if ms <= _FIRST_MS else math.ceil(math.log(ms / _FIRST_MS) / math.log(_GROWTH))


def top_of(bucket: int) -> float:
    """The longest time of a bucket, in ms."""
    return float(_FIRST_MS * _GROWTH**bucket)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """What that share took at most, in ms, up to a tenth too much; None of nothing."""
    total = sum(counts.values())
    if not total:
        return None
    left = math.ceil(total * share)
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            break
    return top_of(bucket)
