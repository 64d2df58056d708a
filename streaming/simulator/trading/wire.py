"""Actions as they come in: parsed, or refused as the exchange's own types refuse them (422)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from streaming.signing.typed_data import address_bytes
from streaming.signing.user_signed import is_user_signed
from streaming.simulator.engine.block import Event

NUMBER = re.compile(r"\d{1,20}(\.\d{1,20})?\Z", re.ASCII)
CLOID = re.compile(r"0x[0-9a-fA-F]{32}\Z")
TIFS = {"Alo": "Alo", "Ioc": "Ioc", "Gtc": "Gtc", "FrontendMarket": "Ioc"}
GROUPINGS = ("na", "normalTpsl", "positionTpsl")
#: L1 actions of the exchange; those that the desk does not know it says so of.
L1_KINDS = frozenset(
    {
        "order", "cancel", "cancelByCloid", "modify", "batchModify", "updateLeverage",
        "updateIsolatedMargin", "topUpIsolatedOnlyMargin", "scheduleCancel", "twapOrder",
        "twapCancel", "setReferrer", "createSubAccount", "subAccountTransfer",
        "subAccountSpotTransfer", "vaultTransfer", "createVault", "evmUserModify",
        "reserveRequestWeight", "noop", "agentEnableDexAbstraction", "agentSetAbstraction",
        "spotDeploy", "perpDeploy", "CSignerAction", "CValidatorAction", "validatorL1Stream",
        "claimRewards", "registerReferrer", "multiSig",
    }
)  # fmt: skip
MAX_BATCH = 1_000


class Unparsable(ValueError):
    """Not an action that the exchange could read."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed body: `body` is all of it, `action` its inner part with the keys as sent."""

    body: Event
    action: Event
    kind: str
    nonce: int
    vault: str | None
    expires_after_ms: int | None

    @property
    def is_user_signed(self) -> bool:
        """Whether the user's own key must have signed the fields."""
        return is_user_signed(self.kind)


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a stop or take-profit turns into an order."""

    px: Decimal
    is_market: bool
    is_stop: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """An order as asked for; prices and sizes are not checked yet."""

    asset: int
    is_buy: bool
    px: Decimal
    sz: Decimal
    reduce_only: bool
    tif: str
    trigger: Trigger | None
    cloid: str | None


def envelope(body: object) -> Envelope:
    """The body of a request. Raises Unparsable."""
    outer = fields(body)
    action = fields(outer.get("action"))
    kind = string(action, "type")
    if kind not in L1_KINDS and not is_user_signed(kind):
        raise Unparsable("unknown action")
    signature = fields(outer.get("signature"))
    if not isinstance(signature.get("v"), int):
        raise Unparsable("no signature")
    string(signature, "r"), string(signature, "s")
    vault = outer.get("vaultAddress")
    expires = outer.get("expiresAfter")
    return Envelope(
        body=outer,
        action=action,
        kind=kind,
        nonce=number(outer, "nonce"),
        vault=None if vault is None else address(outer, "vaultAddress"),
        expires_after_ms=None if expires is None else number(outer, "expiresAfter"),
    )


def wish(raw: object) -> Wish:
    """One order of a batch. Raises Unparsable."""
    row = fields(raw)
    kind = fields(row.get("t"))
    limit, trigger = kind.get("limit"), kind.get("trigger")
    if (limit is None) == (trigger is None):
        raise Unparsable("neither a limit nor a trigger")
    return Wish(
        asset=number(row, "a"),
        is_buy=flag(row, "b"),
        px=amount(row, "p"),
        sz=amount(row, "s"),
        reduce_only=flag(row, "r"),
        tif=_tif(fields(limit)) if limit is not None else "Gtc",
        trigger=None if trigger is None else _trigger(fields(trigger)),
        cloid=None if row.get("c") is None else cloid(row, "c"),
    )


def _tif(limit: Event) -> str:
    tif = TIFS.get(string(limit, "tif"))
    if tif is None:
        raise Unparsable("unknown tif")
    return tif


def _trigger(trigger: Event) -> Trigger:
    kind = string(trigger, "tpsl")
    if kind not in ("tp", "sl"):
        raise Unparsable("unknown tpsl")
    return Trigger(
        px=amount(trigger, "triggerPx"), is_market=flag(trigger, "isMarket"), is_stop=kind == "sl"
    )


def grouping(action: Event) -> str:
    """How a batch's orders belong together; a priority is none of that. Raises Unparsable."""
    given = action.get("grouping")
    if isinstance(given, dict) and set(given) == {"p"}:
        return "na"
    if given not in GROUPINGS:
        raise Unparsable("unknown grouping")
    return str(given)


def batch(action: Event, key: str) -> list[Event]:
    """The items of a batch. Raises Unparsable."""
    rows = action.get(key)
    if not isinstance(rows, list) or len(rows) > MAX_BATCH:
        raise Unparsable(f"{key} is no list of at most {MAX_BATCH}")
    return [fields(row) for row in rows]


def order_key(row: Event) -> int | str:
    """An order's id, the exchange's or the client's. Raises Unparsable."""
    return cloid(row, "oid") if isinstance(row.get("oid"), str) else number(row, "oid")


def fields(value: object) -> Event:
    """An object. Raises Unparsable."""
    if not isinstance(value, dict):
        raise Unparsable("not an object")
    return value


def string(row: Event, key: str) -> str:
    """A string. Raises Unparsable."""
    value = row.get(key)
    if not isinstance(value, str):
        raise Unparsable(f"{key} is no string")
    return value


def flag(row: Event, key: str) -> bool:
    """A boolean. Raises Unparsable."""
    value = row.get(key)
    if not isinstance(value, bool):
        raise Unparsable(f"{key} is no boolean")
    return value


def number(row: Event, key: str) -> int:
    """A whole number of at most 64 bits from zero. Raises Unparsable."""
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise Unparsable(f"{key} is no count")
    return value


def signed(row: Event, key: str) -> int:
    """A whole number. Raises Unparsable."""
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 63:
        raise Unparsable(f"{key} is no number")
    return value


def amount(row: Event, key: str) -> Decimal:
    """A decimal number from zero in a string. Raises Unparsable."""
    value = string(row, key)
    if not NUMBER.match(value):
        raise Unparsable(f"{key} is no decimal number")
    return Decimal(value)


def address(row: Event, key: str) -> str:
    """An address, in lower case. Raises Unparsable."""
    value = string(row, key)
    try:
        address_bytes(value)
    except ValueError:
        raise Unparsable(f"{key} is no address") from None
    return value.lower()


def cloid(row: Event, key: str) -> str:
    """A client's order id, in lower case. Raises Unparsable."""
    value = string(row, key)
    if not CLOID.match(value):
        raise Unparsable(f"{key} is no cloid")
    return value.lower()


def scaled(value: Decimal, decimals: int) -> int | None:
    """`value` × 10^decimals, or None where that is not whole."""
    whole = value.scaleb(decimals)
    return int(whole) if whole == whole.to_integral_value() else None
