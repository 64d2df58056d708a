"""What is signed of an L1 action: a hash of the action as it was sent, its keys in their order.

Source: hyperliquid-python-sdk 0.24.0, `utils/signing.py`; official docs, exchange endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from streaming.signing.keccak import keccak
from streaming.signing.typed_data import Network, domain_separator, signed_digest

AGENT_TYPE: Final = keccak(b"Agent(string source,bytes32 connectionId)")
DOMAIN: Final = domain_separator("Exchange", chain_id=1337)
SOURCES: Final = {Network.MAINNET: keccak(b"a"), Network.TESTNET: keccak(b"b")}


def action_hash(
    action: Mapping[str, Any], *, vault: bytes | None, nonce: int, expires_after: int | None
) -> bytes:
    """The connection id. `vault` is 20 bytes. Raises ValueError, TypeError or OverflowError for
    what msgpack or eight bytes cannot hold.
    """
    packed: bytes = msgpack.packb(action)
    parts = [packed, nonce.to_bytes(8, "big")]
    parts.append(b"\0" if vault is None else b"\1" + vault)
    if expires_after is not None:
        parts.append(b"\0" + expires_after.to_bytes(8, "big"))
    return keccak(b"".join(parts))


def agent_digest(connection_id: bytes, network: Network) -> bytes:
    """The 32 bytes under the signature."""
    return signed_digest(DOMAIN, keccak(AGENT_TYPE + SOURCES[network] + connection_id))
