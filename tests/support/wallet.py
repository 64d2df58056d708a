"""A wallet that signs /exchange bodies with eth-account and msgpack, and nothing of the relay."""

from __future__ import annotations

from typing import Any

import msgpack
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

ZERO = "0x" + "0" * 40
DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
AGENT_FIELDS = [{"name": "source", "type": "string"}, {"name": "connectionId", "type": "bytes32"}]


class Wallet:
    """One key. `is_mainnet` decides what its signatures are for."""

    def __init__(self, key: bytes | str, *, is_mainnet: bool = True) -> None:
        self._account = Account.from_key(key)
        self.address = str(self._account.address).lower()
        self.is_mainnet = is_mainnet
        self.nonce = 0

    def l1(
        self,
        action: dict[str, Any],
        *,
        nonce: int,
        vault: str | None = None,
        expires_after: int | None = None,
    ) -> dict[str, Any]:
        """A body with a signed L1 action."""
        packed = msgpack.packb(action) + nonce.to_bytes(8, "big")
        packed += b"\0" if vault is None else b"\1" + bytes.fromhex(vault[2:])
        if expires_after is not None:
            packed += b"\0" + expires_after.to_bytes(8, "big")
        message = {"source": "a" if self.is_mainnet else "b", "connectionId": keccak(packed)}
        signature = self._sign("Exchange", 1337, "Agent", AGENT_FIELDS, message)
        return {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": vault,
            "expiresAfter": expires_after,
        }

    def user_signed(
        self, action: dict[str, Any], struct: str, fields: list[tuple[str, str]], *, nonce: int
    ) -> dict[str, Any]:
        """A body with an action whose fields are signed; `fields` without the chain."""
        action = action | {
            "signatureChainId": "0x66eee",
            "hyperliquidChain": "Mainnet" if self.is_mainnet else "Testnet",
        }
        rows = [{"name": name, "type": kind} for name, kind in fields]
        rows.insert(0, {"name": "hyperliquidChain", "type": "string"})
        signature = self._sign(
            "HyperliquidSignTransaction", 0x66EEE, f"HyperliquidTransaction:{struct}", rows, action
        )
        return {"action": action, "nonce": nonce, "signature": signature}

    def _sign(
        self, domain: str, chain_id: int, primary: str, fields: list[dict[str, str]], message: Any
    ) -> dict[str, Any]:
        signable = encode_typed_data(
            full_message={
                "domain": {
                    "name": domain,
                    "version": "1",
                    "chainId": chain_id,
                    "verifyingContract": ZERO,
                },
                "types": {primary: fields, "EIP712Domain": DOMAIN_FIELDS},
                "primaryType": primary,
                "message": message,
            }
        )
        signed = self._account.sign_message(signable)
        # As the SDK writes them: not padded.
        return {"r": hex(signed.r), "s": hex(signed.s), "v": signed.v}
