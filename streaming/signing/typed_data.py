"""EIP-712 for the flat structs that Hyperliquid has its users sign: no arrays, no nesting."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from streaming.signing.keccak import keccak

Fields = Sequence[tuple[str, str]]  # (name, type), in the order that is hashed

DOMAIN_TYPE: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
UINT_BITS: Final = {"uint32": 32, "uint64": 64}


class Network(StrEnum):
    """The chain a signature is meant for, as `hyperliquidChain` names it."""

    MAINNET = "Mainnet"
    TESTNET = "Testnet"


@functools.lru_cache(maxsize=64)
def domain_separator(name: str, *, chain_id: int) -> bytes:
    """Version 1, and nobody's contract. Raises OverflowError for a chain id over 256 bits."""
    return keccak(
        DOMAIN_TYPE
        + keccak(name.encode())
        + keccak(b"1")
        + chain_id.to_bytes(32, "big")
        + bytes(32)
    )


@functools.lru_cache(maxsize=64)
def type_hash(primary_type: str, fields: tuple[tuple[str, str], ...]) -> bytes:
    """The hash of a struct's own description."""
    members = ",".join(f"{kind} {name}" for name, kind in fields)
    return keccak(f"{primary_type}({members})".encode())


def struct_hash(primary_type: str, fields: Fields, values: Mapping[str, Any]) -> bytes:
    """The hash of one struct. Raises KeyError, TypeError, ValueError or OverflowError for values
    that do not fit their types.
    """
    encoded = [type_hash(primary_type, tuple(fields))]
    encoded += [encode(kind, values[name]) for name, kind in fields]
    return keccak(b"".join(encoded))


def signed_digest(domain: bytes, struct: bytes) -> bytes:
    """The 32 bytes under the signature."""
    return keccak(b"\x19\x01" + domain + struct)


def encode(kind: str, value: Any) -> bytes:
    """One member as 32 bytes. Raises TypeError, ValueError or OverflowError."""
    match kind:
        case "string":
            return keccak(_text(value).encode())
        case "bool":
            if not isinstance(value, bool):
                raise TypeError("not a boolean")
            return int(value).to_bytes(32, "big")
        case "address":
            return bytes(12) + address_bytes(value)
        case "bytes32":
            return bytes(value)
        case "bytes":
            return keccak(bytes.fromhex(_text(value).removeprefix("0x")))
    number = whole(value)
    if number >> UINT_BITS[kind]:
        raise OverflowError(f"over {kind}")
    return number.to_bytes(32, "big")


def address_bytes(value: Any) -> bytes:
    """20 bytes of `0x` and 40 hex digits. Raises TypeError or ValueError."""
    text = _text(value)
    if len(text) != 42 or text[:2] != "0x":
        raise ValueError("not an address")
    return bytes.fromhex(text[2:])


def whole(value: Any) -> int:
    """A number from zero. Raises TypeError or ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    if value < 0:
        raise ValueError("below zero")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value
