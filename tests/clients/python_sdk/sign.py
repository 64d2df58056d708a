"""The python SDK's own signing: prints bodies of every kind as one JSON object.

python sign.py COUNT SEED
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

from eth_account import Account
from hyperliquid.utils import signing


def _fields(kinds: list[dict[str, str]], rng: random.Random) -> dict[str, Any]:
    make = {
        "string": lambda: f"{rng.random():.4f}",
        "uint64": lambda: rng.getrandbits(41),
        "bool": lambda: rng.random() < 0.5,
        "address": lambda: "0x" + rng.randbytes(20).hex(),
    }
    return {row["name"]: make[row["type"]]() for row in kinds if row["name"] != "hyperliquidChain"}


def _order(rng: random.Random) -> dict[str, Any]:
    wires = [
        signing.order_request_to_order_wire(
            {
                "coin": "ETH",
                "is_buy": rng.random() < 0.5,
                "sz": round(rng.uniform(0.01, 9), 4),
                "limit_px": round(rng.uniform(1_000, 4_000), 1),
                "reduce_only": rng.random() < 0.5,
                "order_type": rng.choice(
                    [
                        {"limit": {"tif": "Gtc"}},
                        {"trigger": {"isMarket": True, "triggerPx": 1_700.5, "tpsl": "sl"}},
                    ]
                ),
                "cloid": None,
            },
            rng.randrange(200),
        )
        for _ in range(rng.randrange(1, 4))
    ]
    return signing.order_wires_to_order_action(wires)


USER_SIGNED = {
    "usdSend": (signing.USD_SEND_SIGN_TYPES, "UsdSend", "time"),
    "spotSend": (signing.SPOT_TRANSFER_SIGN_TYPES, "SpotSend", "time"),
    "withdraw3": (signing.WITHDRAW_SIGN_TYPES, "Withdraw", "time"),
    "usdClassTransfer": (signing.USD_CLASS_TRANSFER_SIGN_TYPES, "UsdClassTransfer", "nonce"),
    "sendAsset": (signing.SEND_ASSET_SIGN_TYPES, "SendAsset", "nonce"),
    "tokenDelegate": (signing.TOKEN_DELEGATE_TYPES, "TokenDelegate", "nonce"),
    "convertToMultiSigUser": (
        signing.CONVERT_TO_MULTI_SIG_USER_SIGN_TYPES,
        "ConvertToMultiSigUser",
        "nonce",
    ),
    "userDexAbstraction": (signing.USER_DEX_ABSTRACTION_SIGN_TYPES, "UserDexAbstraction", "nonce"),
    "userSetAbstraction": (signing.USER_SET_ABSTRACTION_SIGN_TYPES, "UserSetAbstraction", "nonce"),
}


def main(count: int, seed: int) -> None:
    """`count` rounds of one L1 action, every user-signed one, an agent and a multi-sig."""
    rng, rows = random.Random(seed), []
    for round_number in range(count):
        wallet, is_mainnet = Account.from_key(rng.randbytes(32)), round_number % 2 == 0
        nonce = rng.getrandbits(41)
        vault = None if rng.random() < 0.5 else "0x" + rng.randbytes(20).hex()
        expires = None if rng.random() < 0.5 else rng.getrandbits(41)

        def keep(action: Any, signature: Any, **outer: Any) -> None:
            body = {"action": action, "nonce": nonce, "signature": signature, **outer}  # noqa: B023
            rows.append(
                {
                    "address": wallet.address.lower(),  # noqa: B023
                    "is_mainnet": is_mainnet,  # noqa: B023
                    "body": body,
                }
            )

        action = _order(rng)
        signed = signing.sign_l1_action(wallet, action, vault, nonce, expires, is_mainnet)
        keep(action, signed, vaultAddress=vault, expiresAfter=expires)
        for kind, (types, name, clock) in USER_SIGNED.items():
            action = {"type": kind, **_fields(types, rng), clock: nonce}
            signed = signing.sign_user_signed_action(
                wallet, action, types, f"HyperliquidTransaction:{name}", is_mainnet
            )
            keep(action, signed)
        agent = {"type": "approveAgent", "agentAddress": "0x" + rng.randbytes(20).hex()}
        agent |= {"agentName": "", "nonce": nonce}
        signed = signing.sign_agent(wallet, agent, is_mainnet)
        del agent["agentName"]
        keep(agent, signed)
        for kind, name in (("cDeposit", "CDeposit"), ("cWithdraw", "CWithdraw")):
            types = [
                {"name": "hyperliquidChain", "type": "string"},
                {"name": "wei", "type": "uint64"},
                {"name": "nonce", "type": "uint64"},
            ]
            action = {"type": kind, "wei": rng.getrandbits(40), "nonce": nonce}
            signed = signing.sign_user_signed_action(
                wallet, action, types, f"HyperliquidTransaction:{name}", is_mainnet
            )
            keep(action, signed)
        multi: dict[str, Any] = {
            "type": "multiSig",
            "signatureChainId": "0x66eee",
            "signatures": [signed],
            "payload": {"multiSigUser": vault, "outerSigner": None, "action": _order(rng)},
        }
        signed = signing.sign_multi_sig_action(wallet, multi, is_mainnet, vault, nonce, expires)
        keep(multi, signed, vaultAddress=vault, expiresAfter=expires)
    json.dump({"bodies": rows}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
