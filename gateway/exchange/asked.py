"""What an `/exchange` body asks for, as far as a relay needs to know. Pure, and never written back:
the bytes that came are the bytes that go.

Source of the forms: the exchange's page on its endpoint, and what python-sdk, ccxt and nktkas send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeGuard

import orjson

#: A full batch of the exchange's is some 100 orders of 150 bytes.
MAX_BODY_BYTES = 256 * 1024
#: Actions whose length weighs: their list, by type.
BATCHES = {
    "order": "orders",
    "cancel": "cancels",
    "cancelByCloid": "cancels",
    "batchModify": "modifies",
}
#: One weight more for each of so many in a batch.
BATCH_OF_ONE_WEIGHT = 40
#: Settings of one asset.
SETTINGS = frozenset({"updateLeverage", "updateIsolatedMargin", "topUpIsolatedOnlyMargin"})
#: What places orders, and so is worth something.
ORDERS = frozenset({"order", "modify", "batchModify", "twapOrder"})
#: Where the asset ids of spot, of builders' dexes and of outcomes begin.
FIRST_SPOT, FIRST_DEX, FIRST_OUTCOME = 10_000, 100_000, 100_000_000
#: What only takes back. A key that may do nothing else cannot open a position.
CANCELS = frozenset({"cancel", "cancelByCloid", "scheduleCancel", "twapCancel", "noop"})


#: What may be a facet of records: words that the exchange knows, and not what a customer makes up.
KINDS = (
    CANCELS
    | ORDERS
    | SETTINGS
    | {
        *("usdSend", "spotSend", "withdraw3", "usdClassTransfer"),
        *("sendAsset", "vaultTransfer", "approveAgent", "approveBuilderFee", "multiSig"),
        *("setReferrer", "createSubAccount", "subAccountTransfer", "subAccountSpotTransfer"),
        *("tokenDelegate", "cDeposit", "cWithdraw", "evmUserModify", "reserveRequestWeight"),
    }
)


def label_of(kind: str) -> str:
    """The type of an action, or `other`."""
    return kind if kind in KINDS else "other"


class BadAction(ValueError):
    """A body that no exchange would take; the text is one line for the customer."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order within an action. `price` is its limit, None where it has none (a TWAP);
    `trigger_price` is that at which it begins. `is_limit` says that it costs its limit at most."""

    asset: int
    is_buy: bool
    price: Decimal | None
    trigger_price: Decimal | None
    size: Decimal
    is_limit: bool
    is_reduce_only: bool
    cloid: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """An action and its envelope, as parsed from the body; `body` is what came."""

    body: bytes
    envelope: Mapping[str, Any]
    action: Mapping[str, Any]
    kind: str
    nonce: int

    @property
    def inner(self) -> Mapping[str, Any]:
        """The action that is carried out: of a multi-signature its payload's, else itself."""
        if self.kind != "multiSig":
            return self.action
        payload = self.action.get("payload")
        action = payload.get("action") if isinstance(payload, dict) else None
        if not isinstance(action, dict) or not isinstance(action.get("type"), str):
            raise BadAction("multiSig: payload.action must be an object with a string 'type'.")
        return action

    @property
    def length(self) -> int:
        """How many it orders, cancels or modifies; 1 for everything else."""
        rows = self.inner.get(BATCHES.get(self.inner["type"], ""))
        return max(1, len(rows)) if isinstance(rows, list) else 1

    @property
    def is_cancel(self) -> bool:
        """Whether it only takes back."""
        return self.inner["type"] in CANCELS

    @property
    def weight(self) -> int:
        """What the exchange counts to our address for it."""
        return 1 + self.length // BATCH_OF_ONE_WEIGHT

    def orders(self) -> Iterator[Order]:
        """The orders it would place. Raises BadAction."""
        action = self.inner
        match action["type"]:
            case "order":
                rows = _rows(action, "orders")
            case "modify":
                rows = [action.get("order")]
            case "batchModify":
                rows = [
                    row.get("order") if isinstance(row, dict) else None
                    for row in _rows(action, "modifies")
                ]
            case "twapOrder":
                yield _order(action.get("twap"), 0, is_twap=True)
                return
            case _:
                return
        for place, row in enumerate(rows):
            yield _order(row, place, is_twap=False)

    def assets(self) -> Iterator[int]:
        """Every asset that its orders or settings name; those of cancels are nobody's risk. Raises
        BadAction."""
        for order in self.orders():
            yield order.asset
        action = self.inner
        if action["type"] in SETTINGS:
            yield _asset(action.get("asset"), label_of(action["type"]))


def read(body: bytes) -> Asked:
    """Raises BadAction for what is no envelope with an action.

    A key that comes twice is refused: a parser that takes the first and one that takes the last
    would see two different orders, and the rails would have looked at the wrong one.
    """
    try:
        orjson.loads(body)  # JSON of 1,024 levels at most; the parser with the hook knows no limit
        envelope = json.loads(body, object_pairs_hook=_once)
    except RecursionError as error:
        raise BadAction("The body is nested too deeply.") from error
    except BadAction:
        raise
    except ValueError as error:
        raise BadAction(f"The body is not JSON: {error}.") from error
    if not isinstance(envelope, dict):
        raise BadAction("The body must be a JSON object.")
    action = envelope.get("action")
    if not isinstance(action, dict) or not isinstance(action.get("type"), str):
        raise BadAction("'action' must be an object with a string 'type'.")
    nonce = envelope.get("nonce")
    if not _is_int(nonce) or not 0 <= nonce < 2**64:
        raise BadAction("'nonce' must be an integer of 0 to 2^64-1, by convention the time in ms.")
    if not isinstance(envelope.get("signature"), dict):
        raise BadAction("'signature' must be an object with r, s and v.")
    return Asked(body, envelope, action, action["type"], nonce)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise BadAction(f"The key {name[:40]!a} comes twice in one object.")
        found[name] = value
    return found


def _rows(action: Mapping[str, Any], name: str) -> list[Any]:
    rows = action.get(name)
    if not isinstance(rows, list):
        raise BadAction(f"'{name}' must be an array.")
    return rows


def _order(row: Any, place: int, *, is_twap: bool) -> Order:
    where = f"order {place}"
    if not isinstance(row, dict):
        raise BadAction(f"{where} must be an object.")
    price = trigger_price = None
    is_limit = False
    # A TWAP has no price, and a `p` in one is nothing the exchange would look at.
    if not is_twap:
        price = _decimal(row.get("p"), where, "p")
        how = row.get("t")
        if not isinstance(how, dict) or len(how) != 1:
            raise BadAction(f"{where}: 't' must be an object with limit or trigger.")
        is_limit = "limit" in how
        if not is_limit:
            trigger = how.get("trigger")
            if not isinstance(trigger, dict):
                raise BadAction(f"{where}: 't' must be an object with limit or trigger.")
            trigger_price = _decimal(trigger.get("triggerPx"), where, "triggerPx")
    asset = _asset(row.get("a"), where)
    return Order(
        asset,
        _flag(row.get("b"), where, "b"),
        price,
        trigger_price,
        _decimal(row.get("s"), where, "s"),
        is_limit,
        # Only a position can be reduced, and spot and outcomes have none.
        _flag(row.get("r"), where, "r") and _is_perp(asset),
        row["c"] if isinstance(row.get("c"), str) else None,
    )


def _is_perp(asset: int) -> bool:
    return asset < FIRST_SPOT or FIRST_DEX <= asset < FIRST_OUTCOME


def _asset(value: Any, where: str) -> int:
    if not _is_int(value) or not 0 <= value < 2**32:
        raise BadAction(f"{where}: the asset must be an integer of 0 to 2^32-1.")
    return value


def _flag(value: Any, where: str, name: str) -> bool:
    if not isinstance(value, bool):
        raise BadAction(f"{where}: '{name}' must be true or false.")
    return value


def _decimal(value: Any, where: str, name: str) -> Decimal:
    if not isinstance(value, str) or len(value) > 40:
        raise BadAction(f"{where}: '{name}' must be a number in a text of at most 40 characters.")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise BadAction(f"{where}: '{name}' is no number.") from error
    if not number.is_finite() or number < 0 or number.adjusted() > 30:
        raise BadAction(f"{where}: '{name}' must be 0 or more, and below 10^30.")
    return number


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
