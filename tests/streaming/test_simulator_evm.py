"""The simulated HyperEVM: consistent with itself, and able to take a transaction."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import orjson
import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from streaming.simulator.servers.evm_chain import AMOUNT, CHAIN_ID, TRANSFER, Chain
from streaming.simulator.servers.evm_rpc import MAX_RANGE, EvmRpc
from streaming.simulator.service import serve
from streaming.simulator.simulation import Settings, Simulator

HEIGHT = 5_000


def chain_of(seed: int = 1, height: int = HEIGHT) -> Chain:
    return Chain(seed, height=lambda: height, second=lambda number: 1_700_000_000 + number)


def ask(rpc: EvmRpc, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = orjson.loads(rpc.answer(orjson.dumps(body)))
    assert "error" not in answer, answer
    return answer["result"]


@given(st.integers(0, 2**40), st.integers(1, HEIGHT))
def test_a_block_is_a_function_of_seed_and_number(seed: int, number: int) -> None:
    one, other = chain_of(seed), chain_of(seed, height=HEIGHT + 1)
    assert one.block(number, full=True) == other.block(number, full=True)
    assert one.block(number)["parentHash"] == one.block(number - 1)["hash"]
    assert one.block(number)["hash"] != chain_of(seed + 1).block(number)["hash"]


@given(st.integers(20, HEIGHT))
def test_logs_add_up_to_balances_and_transactions_to_nonces(number: int) -> None:
    chain = chain_of()
    begin = number - 20
    moved = dict.fromkeys(chain.accounts, 0)
    sent = dict.fromkeys(chain.accounts, 0)
    for each in range(begin + 1, number + 1):
        for row in chain.transactions(each):
            assert int(row["nonce"], 16) == chain.nonce(row["from"], each - 1) + sum(
                other["from"] == row["from"]
                for other in chain.transactions(each)[: int(row["transactionIndex"], 16)]
            )
            sent[row["from"]] += 1
        for log in chain.logs(each):
            assert log["topics"][0] == TRANSFER
            moved["0x" + log["topics"][1][-40:]] -= AMOUNT
            moved["0x" + log["topics"][2][-40:]] += AMOUNT
    for account in chain.accounts:
        gained = chain.token_balance(account, number) - chain.token_balance(account, begin)
        assert gained == moved[account]
        assert chain.nonce(account, number) - chain.nonce(account, begin) == sent[account]


def test_a_receipt_has_the_logs_of_its_transaction() -> None:
    rpc = EvmRpc(chain_of())
    block = ask(rpc, "eth_getBlockByNumber", hex(HEIGHT - 1), True)
    for row in block["transactions"]:
        receipt = ask(rpc, "eth_getTransactionReceipt", row["hash"])
        assert receipt["blockHash"] == block["hash"]
        wanted = {"blockHash": block["hash"]}
        logs = [
            log for log in ask(rpc, "eth_getLogs", wanted) if log["transactionHash"] == row["hash"]
        ]
        assert receipt["logs"] == logs
    used = sum(
        int(ask(rpc, "eth_getTransactionReceipt", row["hash"])["gasUsed"], 16)
        for row in block["transactions"]
    )
    assert int(block["gasUsed"], 16) == used


def test_filters_and_ranges() -> None:
    rpc = EvmRpc(chain_of())
    account = rpc.chain.accounts[2]
    sender = "0x" + account[2:].rjust(64, "0")
    wanted = {"fromBlock": hex(HEIGHT - 40), "toBlock": "latest", "topics": [TRANSFER, sender]}
    found = ask(rpc, "eth_getLogs", wanted)
    assert found
    assert {log["topics"][1] for log in found} == {sender}
    assert ask(rpc, "eth_getLogs", wanted | {"address": account}) == []
    body = {"id": 1, "method": "eth_getLogs", "params": [{"fromBlock": hex(HEIGHT - MAX_RANGE)}]}
    assert b"exceeds max block range" in rpc.answer(orjson.dumps(body))


@pytest.mark.parametrize("is_typed", [True, False])
def test_a_signed_transaction_gets_into_the_next_block_and_moves_money(*, is_typed: bool) -> None:
    height = HEIGHT
    chain = Chain(1, height=lambda: height, second=lambda number: number)
    rpc, payer = EvmRpc(chain), Account.from_key("0x" + "22" * 32)
    fees = {"maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0} if is_typed else {"gasPrice": 10**9}
    to = Account.from_key("0x" + "33" * 32).address
    fields = {"to": to, "value": 7, "gas": 21_000, "nonce": 0, "chainId": CHAIN_ID, **fees}
    raw = "0x" + payer.sign_transaction(fields).raw_transaction.hex()
    before = chain.balance(to, height)
    tx_hash = ask(rpc, "eth_sendRawTransaction", raw)
    assert ask(rpc, "eth_getTransactionReceipt", tx_hash) is None
    again = {"id": 1, "method": "eth_sendRawTransaction", "params": [raw]}
    assert b"already known" in rpc.answer(orjson.dumps(again))
    height += 1
    receipt = ask(rpc, "eth_getTransactionReceipt", tx_hash)
    assert (receipt["from"], receipt["to"]) == (payer.address.lower(), to.lower())
    assert chain.balance(to, height) - before == 7
    assert ask(rpc, "eth_getTransactionCount", payer.address, "latest") == "0x1"
    other = "0x" + payer.sign_transaction({**fields, "value": 8}).raw_transaction.hex()
    low = {"id": 1, "method": "eth_sendRawTransaction", "params": [other]}
    assert b"nonce too low" in rpc.answer(orjson.dumps(low))


async def test_it_is_served_with_subscriptions_and_its_blocks_follow_the_exchange_s() -> None:
    simulator = Simulator(Settings(perps=1, activity=0.1))
    async with serve(simulator, blocks_per_s=None) as service, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{service.http_url}/evm") as socket:
            for kind in ("newHeads", "logs"):
                call = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": [kind]}
                await socket.send_json(call)
                assert (await socket.receive_json(timeout=10))["result"].startswith("0x")
            first = service.evm.rpc.chain.height
            for _ in range(14 * 4):
                service.step()
            heads, logs = list[int](), list[int]()
            while len(heads) < 4 or len(logs) < 6:
                result = (await socket.receive_json(timeout=10))["params"]["result"]
                is_head = "parentHash" in result
                number = int(result["number" if is_head else "blockNumber"], 16)
                (heads if is_head else logs).append(number)
            assert heads == list(range(first + 1, first + 5))
            assert len(logs) == sum(number % 4 for number in heads)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
        async with session.post(f"{service.http_url}/evm", data=body) as answer:
            assert (await answer.json())["result"] == "0x3e7"
        newest = service.evm.rpc.chain.block(service.evm.rpc.chain.height)
        age_s = simulator.exchange.block.time_ms / 1_000 - int(newest["timestamp"], 16)
        assert 0 <= age_s < 2
