"""JSON-RPC of a node's `/evm`: a body in, an answer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from streaming.simulator.servers.evm_chain import (
    ACCOUNTS,
    CHAIN_ID,
    GAS_LIMIT,
    Chain,
    Refusal,
    quantity,
    word,
)

MAX_RANGE = 1_000
Params = list[Any]


def text_word(text: str) -> str:
    """An ABI string."""
    data = text.encode()
    return word(32) + word(len(data)) + data.hex().ljust(64, "0")


class EvmRpc:
    """Answers for one chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.seen: dict[str, int] = {}  # how often each method was asked
        self._methods: dict[str, Callable[[Params], Any]] = {
            "eth_chainId": lambda p: quantity(CHAIN_ID),
            "net_version": lambda p: str(CHAIN_ID),
            "net_listening": lambda p: True,
            "web3_clientVersion": lambda p: "hl-simulator/v1",
            "eth_syncing": lambda p: False,
            "eth_accounts": lambda p: [],
            "eth_blockNumber": lambda p: quantity(chain.height),
            "eth_gasPrice": lambda p: quantity(chain.base_fee(chain.height)),
            "eth_maxPriorityFeePerGas": lambda p: "0x0",
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": lambda p: self._block(self._number(p[0]), p[1:]),
            "eth_getBlockByHash": lambda p: self._block(chain.number_of(str(p[0])), p[1:]),
            "eth_getBlockTransactionCountByNumber": lambda p: quantity(
                len(chain.transactions(self._height(p[0])))
            ),
            "eth_getBlockReceipts": lambda p: [
                chain.receipt(row) for row in chain.transactions(self._height(p[0]))
            ],
            "eth_getBalance": lambda p: quantity(chain.balance(p[0], self._at(p, 1))),
            "eth_getTransactionCount": lambda p: quantity(chain.nonce(p[0], self._at(p, 1))),
            "eth_getCode": lambda p: "0x6001" if p[0].lower() == chain.token else "0x",
            "eth_getStorageAt": lambda p: "0x" + word(0),
            "eth_call": self._call,
            "eth_estimateGas": lambda p: quantity(51_000 if self._data(p[0]) else 21_000),
            "eth_getLogs": lambda p: self._logs(p[0]),
            "eth_getTransactionByHash": lambda p: chain.find(p[0]),
            "eth_getTransactionReceipt": self._receipt,
            "eth_sendRawTransaction": lambda p: chain.submit(bytes.fromhex(p[0][2:])),
        }

    def answer(self, body: bytes) -> bytes:
        """To one call or a batch of them."""
        try:
            asked = orjson.loads(body)
        except ValueError:
            return _error(None, -32700, "parse error")
        if isinstance(asked, list):
            return b"[" + b",".join(self.call(each) for each in asked) + b"]"
        return self.call(asked)

    def call(self, asked: Any) -> bytes:
        """The answer to one call."""
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
            return _error(None, -32600, "invalid request")
        name, call_id = asked["method"], asked.get("id")
        self.seen[name] = self.seen.get(name, 0) + 1
        handler = self._methods.get(name)
        if handler is None:
            return _error(call_id, -32601, f"the method {name} does not exist/is not available")
        try:
            result = handler(asked.get("params") or [])
        except Refusal as refusal:
            return _error(call_id, refusal.code, refusal.message)
        except (LookupError, TypeError, ValueError, AttributeError):
            return _error(call_id, -32602, "invalid argument")
        return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "result": result})

    def matching(self, number: int, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """The logs of a block that a filter wants."""
        addresses = wanted.get("address") or []
        named = [addresses] if isinstance(addresses, str) else addresses
        found = []
        for log in self.chain.logs(number):
            if named and log["address"] not in [each.lower() for each in named]:
                continue
            topics = wanted.get("topics") or []
            if len(topics) <= len(log["topics"]) and all(
                _fits(topic, have) for topic, have in zip(topics, log["topics"], strict=False)
            ):
                found.append(log)
        return found

    def _number(self, tag: Any) -> int | None:
        """The block a tag means; None for one that is not there yet."""
        match tag:
            case "latest" | "pending" | "safe" | "finalized":
                return self.chain.height
            case "earliest":
                return 0
            case str():
                number = int(tag, 16)
                return number if number <= self.chain.height else None
        raise ValueError(tag)

    def _height(self, tag: Any) -> int:
        number = self._number(tag)
        if number is None:
            raise Refusal("block not found")
        return number

    def _at(self, params: Params, place: int) -> int:
        return self._height(params[place] if len(params) > place else "latest")

    def _block(self, number: int | None, rest: Params) -> Any:
        return None if number is None else self.chain.block(number, full=bool(rest and rest[0]))

    def _receipt(self, params: Params) -> Any:
        row = self.chain.find(params[0])
        return None if row is None else self.chain.receipt(row)

    @staticmethod
    def _data(transaction: dict[str, Any]) -> str:
        return str(transaction.get("data") or transaction.get("input") or "")[2:]

    def _call(self, params: Params) -> str:
        data, number = self._data(params[0]), self._at(params, 1)
        if str(params[0].get("to")).lower() != self.chain.token:
            return "0x"
        match data[:8]:
            case "06fdde03":
                return "0x" + text_word("Simulated Dollar")
            case "95d89b41":
                return "0x" + text_word("SIMD")
            case "313ce567":
                return "0x" + word(6)
            case "18160ddd":
                return "0x" + word(ACCOUNTS * 10**9 * 10**6)
            case "70a08231":
                return "0x" + word(self.chain.token_balance("0x" + data[-40:], number))
        raise Refusal("execution reverted", 3)

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        if block_hash := wanted.get("blockHash"):
            first = last = self.chain.number_of(block_hash)
            if first is None:
                raise Refusal("unknown block")
        else:
            first = self._number(wanted.get("fromBlock", "latest"))
            last = self._number(wanted.get("toBlock", "latest"))
        begin = self.chain.height + 1 if first is None else first
        end = self.chain.height if last is None else last
        if end - begin >= MAX_RANGE:
            raise Refusal(f"query exceeds max block range {MAX_RANGE}", -32602)
        return [log for n in range(begin, end + 1) for log in self.matching(n, wanted)]

    def _fee_history(self, params: Params) -> dict[str, Any]:
        count = min(int(params[0], 16) if isinstance(params[0], str) else int(params[0]), 1_024)
        newest = self._height(params[1])
        oldest = max(0, newest - count + 1)
        blocks = range(oldest, newest + 1)
        fees = [self.chain.base_fee(number) for number in (*blocks, newest + 1)]
        ratios = [int(self.chain.block(number)["gasUsed"], 16) / GAS_LIMIT for number in blocks]
        history: dict[str, Any] = {
            "oldestBlock": quantity(oldest),
            "baseFeePerGas": [quantity(fee) for fee in fees],
            "gasUsedRatio": ratios,
        }
        if len(params) > 2 and params[2]:
            history["reward"] = [["0x0"] * len(params[2]) for _ in blocks]
        return history


def _fits(wanted: Any, have: str) -> bool:
    if wanted is None:
        return True
    return have in ([wanted.lower()] if isinstance(wanted, str) else [w.lower() for w in wanted])


def _error(call_id: Any, code: int, message: str) -> bytes:
    error = {"code": code, "message": message}
    return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "error": error})
