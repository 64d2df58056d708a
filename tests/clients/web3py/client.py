"""web3.py, unchanged but for the URL: prints what it was given as one JSON object.

python client.py http://host:port/<key>/evm HEADS DEADLINE_S
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from eth_account import Account
from web3 import AsyncWeb3, Web3, WebSocketProvider

ABI = [
    {
        "name": name,
        "type": "function",
        "stateMutability": "view",
        "inputs": [{"name": "who", "type": "address"}] if name == "balanceOf" else [],
        "outputs": [{"name": "", "type": kind}],
    }
    for name, kind in (
        ("name", "string"), ("decimals", "uint8"), ("totalSupply", "uint256"),
        ("balanceOf", "uint256"),
    )
] + [
    {
        "name": "Transfer",
        "type": "event",
        "anonymous": False,
        "inputs": [
            {"name": "from", "type": "address", "indexed": True},
            {"name": "to", "type": "address", "indexed": True},
            {"name": "value", "type": "uint256", "indexed": False},
        ],
    }
]  # fmt: skip


def read(url: str) -> dict[str, Any]:
    """Blocks, a contract, logs, and a payment of our own until it is in a block."""
    w3 = Web3(Web3.HTTPProvider(url))
    number = w3.eth.block_number
    block = w3.eth.get_block(number, full_transactions=True)
    begin = number - 8
    logs = w3.eth.get_logs({"fromBlock": begin, "toBlock": number})
    token = w3.eth.contract(address=w3.to_checksum_address(logs[0]["address"]), abi=ABI)
    transfers = token.events.Transfer().get_logs(from_block=begin, to_block=number)
    holder = transfers[0]["args"]["to"]
    receipt = w3.eth.get_transaction_receipt(logs[0]["transactionHash"])
    payer = Account.from_key("0x" + "11" * 32)
    before = w3.eth.get_balance(payer.address)
    signed = payer.sign_transaction(
        {
            "to": holder, "value": 10**15, "gas": 21_000, "chainId": w3.eth.chain_id,
            "nonce": w3.eth.get_transaction_count(payer.address),
            "maxFeePerGas": 2 * w3.eth.gas_price, "maxPriorityFeePerGas": 0,
        }
    )  # fmt: skip
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    mined = w3.eth.wait_for_transaction_receipt(sent, timeout=60, poll_latency=0.2)
    after = w3.eth.get_balance(payer.address, mined["blockNumber"])
    with w3.batch_requests() as batch:
        batch.add(w3.eth.get_block(begin))
        batch.add(w3.eth.get_block(begin + 1))
        two = batch.execute()
    return {
        "chain_id": w3.eth.chain_id,
        "client": w3.client_version,
        "number": number,
        "hash": block["hash"].hex(),
        "parents": [two[0]["hash"].hex(), two[1]["parentHash"].hex()],
        "logs": len(logs),
        "transfers": len(transfers),
        "value": transfers[0]["args"]["value"],
        "receipt_logs": len(receipt["logs"]),
        "name": token.functions.name().call(),
        "balance": token.functions.balanceOf(holder).call(block_identifier=number),
        "fees": len(w3.eth.fee_history(4, "latest")["baseFeePerGas"]),
        "paid": before - after,
        "mined_in": mined["blockNumber"],
    }


async def follow(url: str, wanted: int, deadline_s: float) -> dict[str, Any]:
    """New heads and logs over a WebSocket."""
    heads: list[int] = []
    logs: list[int] = []
    async with asyncio.timeout(deadline_s):
        async with AsyncWeb3(WebSocketProvider(url.replace("http", "ws", 1))) as w3:
            of_heads = await w3.eth.subscribe("newHeads")
            of_logs = await w3.eth.subscribe("logs", {})
            async for message in w3.socket.process_subscriptions():
                result: Any = message["result"]
                if message["subscription"] == of_heads:
                    heads.append(result["number"])
                elif message["subscription"] == of_logs:
                    logs.append(result["blockNumber"])
                if len(heads) >= wanted and logs:
                    break
            unsubscribed = await w3.eth.unsubscribe(of_heads)
    return {"heads": heads, "log_blocks": logs, "unsubscribed": unsubscribed}


if __name__ == "__main__":
    found = read(sys.argv[1])
    found |= asyncio.run(follow(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
    json.dump(found, sys.stdout)
