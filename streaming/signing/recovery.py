"""From an /exchange body to the address that signed it.

The signature says nothing of who made it: whatever is recovered is an address, and a wrong byte
anywhere gives another one. So a body has two signers, one for each network it may be meant for.

Importing this module loads coincurve (libsecp256k1); ask for it only where signers are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coincurve import PublicKey

from streaming.signing.keccak import keccak
from streaming.signing.l1 import action_hash, agent_digest
from streaming.signing.typed_data import Network, address_bytes, whole
from streaming.signing.user_signed import is_user_signed, multi_sig_digest, user_digest

#: secp256k1's group order.
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Unrecoverable(ValueError):
    """The body has no signer: it is malformed, or no point of the curve fits its signature."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a body if it was meant for mainnet, and if it was meant for testnet: two addresses
    in lower case, of which at most one is anybody's.
    """

    mainnet_address: str
    testnet_address: str

    def on(self, network: Network) -> str:
        """The signer for one network."""
        return self.mainnet_address if network is Network.MAINNET else self.testnet_address


def recover(body: Mapping[str, Any]) -> Signer:
    """Who signed a parsed /exchange body, keys of `action` in the order they were sent.

    For a user-signed action `hyperliquidChain` is set to each network's name, whatever was sent:
    upstream knows only its own. Raises Unrecoverable.
    """
    mainnet, testnet = _recover(body, (Network.MAINNET, Network.TESTNET))
    return Signer(mainnet, testnet)


def recover_on(body: Mapping[str, Any], network: Network) -> str:
    """The signer for one network alone: half the time of `recover`. Raises Unrecoverable."""
    return _recover(body, (network,))[0]


def _recover(body: Mapping[str, Any], networks: Sequence[Network]) -> list[str]:
    try:
        signature = _compact(body["signature"])
        return [_address(digest, signature) for digest in _digests(body, networks)]
    # RecursionError: msgpack on an action nested deeper than anybody's.
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as why:
        raise Unrecoverable(f"no signer can be recovered: {type(why).__name__}") from None


def _digests(body: Mapping[str, Any], networks: Sequence[Network]) -> list[bytes]:
    """The 32 bytes under the signature, for each network."""
    action, nonce = body["action"], whole(body["nonce"])
    kind = action["type"]
    if is_user_signed(kind):
        return [user_digest(action, network) for network in networks]
    vault, expires_after = body.get("vaultAddress"), body.get("expiresAfter")
    if vault is not None:
        vault = address_bytes(vault)
    if expires_after is not None:
        expires_after = whole(expires_after)
    rest: dict[str, Any] = {"vault": vault, "nonce": nonce, "expires_after": expires_after}
    if kind == "multiSig":
        return [multi_sig_digest(action, network, **rest) for network in networks]
    connection_id = action_hash(action, **rest)
    return [agent_digest(connection_id, network) for network in networks]


def _compact(signature: Mapping[str, Any]) -> bytes:
    """A signature as libsecp256k1 takes it: r, s and whether the point's y is odd."""
    r, s = (_scalar(signature[name]) for name in "rs")
    v = signature["v"]
    if v not in (27, 28) or isinstance(v, bool):
        raise ValueError("v is neither 27 nor 28")
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((v - 27,))


def _address(digest: bytes, signature: bytes) -> str:
    try:
        public = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    # coincurve raises a bare Exception where no point fits.
    except Exception as why:
        raise ValueError("no point of the curve fits") from why
    return "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()


def _scalar(text: Any) -> int:
    """`0x` and up to 64 hex digits, not padded by every client."""
    if not isinstance(text, str) or not text.startswith("0x") or not 2 < len(text) <= 66:
        raise ValueError("not a number in hex")
    number = int.from_bytes(bytes.fromhex(f"{text[2:]:0>64}"), "big")
    if not 0 < number < ORDER:
        raise ValueError("outside of the curve's order")
    return number
