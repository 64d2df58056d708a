"""The actions whose fields users sign themselves, and what is signed of a multi-sig.

Source: hyperliquid-python-sdk 0.24.0, `utils/signing.py`; nktkas/hyperliquid 0.33.3 for
sendToEvmWithData; official docs, exchange endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streaming.signing.l1 import action_hash
from streaming.signing.typed_data import (
    Fields,
    Network,
    domain_separator,
    signed_digest,
    struct_hash,
)

DOMAIN_NAME: Final = "HyperliquidSignTransaction"
CHAIN: Final = ("hyperliquidChain", "string")
NONCE: Final = ("nonce", "uint64")
TIME: Final = ("time", "uint64")


def _strings(*names: str) -> Fields:
    return tuple((name, "string") for name in names)


#: Struct name and members by action type.
STRUCTS: Final[Mapping[str, tuple[str, Fields]]] = {
    "usdSend": ("UsdSend", (*_strings("destination", "amount"), TIME)),
    "spotSend": ("SpotSend", (*_strings("destination", "token", "amount"), TIME)),
    "withdraw3": ("Withdraw", (*_strings("destination", "amount"), TIME)),
    "usdClassTransfer": ("UsdClassTransfer", (("amount", "string"), ("toPerp", "bool"), NONCE)),
    "sendAsset": (
        "SendAsset",
        (
            *_strings(
                "destination",
                "sourceDex",
                "destinationDex",
                "token",
                "amount",
                "fromSubAccount",
            ),
            NONCE,
        ),
    ),
    "sendToEvmWithData": (
        "SendToEvmWithData",
        (
            *_strings("token", "amount", "sourceDex", "destinationRecipient", "addressEncoding"),
            ("destinationChainId", "uint32"),
            ("gasLimit", "uint64"),
            ("data", "bytes"),
            NONCE,
        ),
    ),
    "approveAgent": (
        "ApproveAgent",
        (("agentAddress", "address"), ("agentName", "string"), NONCE),
    ),
    "approveBuilderFee": (
        "ApproveBuilderFee",
        (("maxFeeRate", "string"), ("builder", "address"), NONCE),
    ),
    "tokenDelegate": (
        "TokenDelegate",
        (("validator", "address"), ("wei", "uint64"), ("isUndelegate", "bool"), NONCE),
    ),
    "cDeposit": ("CDeposit", (("wei", "uint64"), NONCE)),
    "cWithdraw": ("CWithdraw", (("wei", "uint64"), NONCE)),
    "convertToMultiSigUser": ("ConvertToMultiSigUser", (("signers", "string"), NONCE)),
    "userDexAbstraction": (
        "UserDexAbstraction",
        (("user", "address"), ("enabled", "bool"), NONCE),
    ),
    "userSetAbstraction": (
        "UserSetAbstraction",
        (("user", "address"), ("abstraction", "string"), NONCE),
    ),
}
MULTI_SIG: Final[Fields] = (("multiSigActionHash", "bytes32"), NONCE)


def is_user_signed(kind: str) -> bool:
    """Whether an action type's fields are signed, rather than a hash of the whole action."""
    return kind in STRUCTS


def inner_nonce(action: Mapping[str, Any]) -> Any:
    """The nonce inside a user-signed action, which must equal the outer one."""
    return action.get("time" if TIME in STRUCTS[action["type"]][1] else "nonce")


def user_digest(action: Mapping[str, Any], network: Network) -> bytes:
    """The 32 bytes under the signature of a user-signed action meant for `network`. Raises
    KeyError, TypeError, ValueError or OverflowError for fields that do not fit.
    """
    name, fields = STRUCTS[action["type"]]
    values = {**action, "hyperliquidChain": network.value}
    # Nobody's name is signed as an empty one, and left out of the body.
    if action["type"] == "approveAgent" and values.get("agentName") is None:
        values["agentName"] = ""
    return _digest(name, fields, values)


def multi_sig_digest(
    action: Mapping[str, Any],
    network: Network,
    *,
    vault: bytes | None,
    nonce: int,
    expires_after: int | None,
) -> bytes:
    """The 32 bytes under the envelope's signature of a multi-sig: a hash of the action without its
    type. Raises as `user_digest` and `action_hash` do.
    """
    untyped = {key: value for key, value in action.items() if key != "type"}
    hashed = action_hash(untyped, vault=vault, nonce=nonce, expires_after=expires_after)
    values = {
        "hyperliquidChain": network.value,
        "multiSigActionHash": hashed,
        "nonce": nonce,
        "signatureChainId": action["signatureChainId"],
    }
    return _digest("SendMultiSig", MULTI_SIG, values)


def _digest(name: str, fields: Fields, values: Mapping[str, Any]) -> bytes:
    domain = domain_separator(DOMAIN_NAME, chain_id=int(values["signatureChainId"], 16))
    struct = struct_hash(f"HyperliquidTransaction:{name}", (CHAIN, *fields), values)
    return signed_digest(domain, struct)
