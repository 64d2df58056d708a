"""A HyperEVM that is a pure function of its seed: blocks, transfers of one token, balances, logs;
and what clients send it, taken into the next block.

Eight accounts send each other 1,000 units of a token in turn: block n has n % 4 transfers. All sums
over blocks have a closed form with a period of eight, so any block can be asked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

CHAIN_ID = 999
#: Every 14 blocks of the exchange, about a second.
L1_BLOCKS = 14
ACCOUNTS = 8
PERIOD = 8
AMOUNT = 1_000
WEI = 10**18
GAS_LIMIT = 2_000_000
TRANSFER_GAS = 51_000
TRANSFER = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
ZERO_32 = "0x" + "00" * 32


def quantity(number: int) -> str:
    """As JSON-RPC writes numbers."""
    return hex(number)


def word(number: int) -> str:
    """32 bytes, without 0x."""
    return f"{number:064x}"


def padded(address: str) -> str:
    """An address as a topic or an argument."""
    return "0x" + address.lower().removeprefix("0x").rjust(64, "0")


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction of a client's own, in block `number`."""

    number: int
    hash: str
    sender: str
    nonce: int
    to: str | None
    value: int
    data: str
    gas: int
    raw: bytes


class Refusal(Exception):
    """What a node answers with an error."""

    def __init__(self, message: str, code: int = -32000) -> None:
        super().__init__(message)
        self.message, self.code = message, code


class Chain:
    """`height` gives the newest block's number, `second` a block's time."""

    def __init__(
        self, seed: int, *, height: Callable[[], int], second: Callable[[int], int]
    ) -> None:
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._height, self._second = height, second
        self.accounts = [self._address(f"account{n}".encode()) for n in range(ACCOUNTS)]
        self.token = self._address(b"token")
        self._sent: list[Sent] = []

    # --- what there is ---

    @property
    def height(self) -> int:
        """Of the newest block."""
        return self._height()

    def base_fee(self, number: int) -> int:
        """Of a block, in wei."""
        return 100_000_000 + number % 100 * 100_000

    def block_hash(self, number: int) -> str:
        """Of any block."""
        return self._hash(b"block", number)

    def number_of(self, block_hash: str) -> int | None:
        """The block with this hash, within the last 10,000."""
        for number in range(self.height, max(-1, self.height - 10_000), -1):
            if self.block_hash(number) == block_hash.lower():
                return number
        return None

    def transactions(self, number: int) -> list[dict[str, Any]]:
        """Of a block, scripted ones first."""
        rows = [self._scripted(number, index) for index in range(number % 4)]
        rows += [
            self._own(sent, index)
            for index, sent in enumerate(self._sent_in(number), start=len(rows))
        ]
        return rows

    def find(self, tx_hash: str) -> dict[str, Any] | None:
        """A transaction by its hash, within the last 1,000 blocks."""
        for sent in self._sent:
            if sent.hash == tx_hash.lower() and sent.number <= self.height:
                rows = self.transactions(sent.number)
                return next(row for row in rows if row["hash"] == sent.hash)
        for number in range(self.height, max(-1, self.height - 1_000), -1):
            for index in range(number % 4):
                if self._hash(b"tx", number, index) == tx_hash.lower():
                    return self._scripted(number, index)
        return None

    def receipt(self, row: dict[str, Any]) -> dict[str, Any]:
        """Of a transaction of `transactions`."""
        number, index = int(row["blockNumber"], 16), int(row["transactionIndex"], 16)
        logs = [log for log in self.logs(number) if log["transactionHash"] == row["hash"]]
        gas = self._gas(row)
        before = sum(self._gas(each) for each in self.transactions(number)[:index])
        return {
            "transactionHash": row["hash"],
            "transactionIndex": row["transactionIndex"],
            "blockHash": row["blockHash"],
            "blockNumber": row["blockNumber"],
            "from": row["from"],
            "to": row["to"],
            "cumulativeGasUsed": quantity(before + gas),
            "gasUsed": quantity(gas),
            "effectiveGasPrice": quantity(self.base_fee(number)),
            "contractAddress": None,
            "logs": logs,
            "logsBloom": bloom(logs),
            "status": "0x1",
            "type": row["type"],
        }

    def logs(self, number: int) -> list[dict[str, Any]]:
        """Of a block: a Transfer for each scripted transaction."""
        return [
            {
                "address": self.token,
                "topics": [
                    TRANSFER,
                    padded(self.accounts[(number + index) % ACCOUNTS]),
                    padded(self.accounts[(number + index + 3) % ACCOUNTS]),
                ],
                "data": "0x" + word(AMOUNT),
                "blockNumber": quantity(number),
                "blockHash": self.block_hash(number),
                "transactionHash": self._hash(b"tx", number, index),
                "transactionIndex": quantity(index),
                "logIndex": quantity(index),
                "removed": False,
            }
            for index in range(number % 4)
        ]

    def block(self, number: int, *, full: bool = False) -> dict[str, Any]:
        """A block as `eth_getBlockByNumber` shows it."""
        rows = self.transactions(number)
        return {
            "number": quantity(number),
            "hash": self.block_hash(number),
            "parentHash": self.block_hash(number - 1) if number else ZERO_32,
            "nonce": "0x0000000000000000",
            "sha3Uncles": self._hash(b"uncles", 0),
            "logsBloom": bloom(self.logs(number)),
            "transactionsRoot": self._hash(b"transactions", number),
            "stateRoot": self._hash(b"state", number),
            "receiptsRoot": self._hash(b"receipts", number),
            "miner": "0x" + "00" * 20,
            "difficulty": "0x0",
            "totalDifficulty": "0x0",
            "extraData": "0x",
            "mixHash": self._hash(b"mix", number),
            "size": quantity(600 + 120 * len(rows)),
            "gasLimit": quantity(GAS_LIMIT),
            "gasUsed": quantity(sum(self._gas(row) for row in rows)),
            "timestamp": quantity(self._second(number)),
            "baseFeePerGas": quantity(self.base_fee(number)),
            "uncles": [],
            "transactions": rows if full else [row["hash"] for row in rows],
        }

    # --- accounts ---

    def balance(self, address: str, number: int) -> int:
        """In wei, after a block."""
        base = (1 + keccak(address.lower().encode())[0]) * WEI
        for sent in self._sent:
            if sent.number <= number:
                base -= sent.value * (sent.sender == address.lower())
                base += sent.value * (sent.to == address.lower())
        return base

    def nonce(self, address: str, number: int) -> int:
        """Transactions that an address sent up to a block."""
        own = sum(s.sender == address.lower() and s.number <= number for s in self._sent)
        if address.lower() not in self.accounts:
            return own
        return own + self._times(self.accounts.index(address.lower()), 0, number)

    def token_balance(self, address: str, number: int) -> int:
        """In units of the token, after a block. Eight accounts begin with a billion each."""
        if address.lower() not in self.accounts:
            return 0
        place = self.accounts.index(address.lower())
        received, sent = self._times(place, 3, number), self._times(place, 0, number)
        return 10**9 * 10**6 + AMOUNT * (received - sent)

    # --- what is sent to it ---

    def submit(self, raw: bytes) -> str:
        """Take a signed transaction into the next block; its hash. Raises Refusal."""
        tx_hash = "0x" + keccak(raw).hex()
        if any(sent.hash == tx_hash for sent in self._sent):
            raise Refusal("already known")
        fields = decoded(raw)
        if fields["chain_id"] not in (None, CHAIN_ID):
            raise Refusal("invalid chain id for signer")
        sender, number = fields["sender"].lower(), self.height + 1
        expected = self.nonce(sender, number)
        if fields["nonce"] < expected:
            raise Refusal(f"nonce too low: next nonce {expected}, tx nonce {fields['nonce']}")
        if fields["value"] > self.balance(sender, number):
            raise Refusal("insufficient funds for gas * price + value")
        self._sent.append(
            Sent(
                number, tx_hash, sender, fields["nonce"], fields["to"], fields["value"],
                fields["data"], fields["gas"], raw,
            )
        )  # fmt: skip
        return tx_hash

    # --- parts ---

    def _hash(self, what: bytes, number: int, index: int = 0) -> str:
        name = self._seed + what + number.to_bytes(8, "big") + bytes([index])
        return "0x" + keccak(name).hex()

    def _address(self, what: bytes) -> str:
        return "0x" + keccak(self._seed + what)[-20:].hex()

    def _times(self, place: int, shift: int, number: int) -> int:
        """How often an account is the one at (n + i + shift) of the transfers up to a block."""

        def within(begin: int, end: int) -> int:
            return sum(
                (n + i + shift) % ACCOUNTS == place for n in range(begin, end) for i in range(n % 4)
            )

        whole, rest = divmod(number + 1, PERIOD)
        return whole * within(0, PERIOD) + within(0, rest)

    def _sent_in(self, number: int) -> Iterator[Sent]:
        return (sent for sent in self._sent if sent.number == number)

    def _gas(self, row: dict[str, Any]) -> int:
        return TRANSFER_GAS if row["to"] == self.token else 21_000

    def _scripted(self, number: int, index: int) -> dict[str, Any]:
        sender = (number + index) % ACCOUNTS
        to = self.accounts[(number + index + 3) % ACCOUNTS]
        before = self._times(sender, 0, number - 1) if number else 0
        earlier = sum((number + i) % ACCOUNTS == sender for i in range(index))
        return self._row(
            number,
            index,
            hash_=self._hash(b"tx", number, index),
            sender=self.accounts[sender],
            nonce=before + earlier,
            to=self.token,
            value=0,
            data="0xa9059cbb" + padded(to)[2:] + word(AMOUNT),
            gas=TRANSFER_GAS,
        )

    def _own(self, sent: Sent, index: int) -> dict[str, Any]:
        return self._row(
            sent.number, index, hash_=sent.hash, sender=sent.sender, nonce=sent.nonce, to=sent.to,
            value=sent.value, data=sent.data, gas=sent.gas,
        )  # fmt: skip

    def _row(
        self, number: int, index: int, *, hash_: str, sender: str, nonce: int, to: str | None,
        value: int, data: str, gas: int,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "hash": hash_,
            "blockHash": self.block_hash(number),
            "blockNumber": quantity(number),
            "transactionIndex": quantity(index),
            "from": sender,
            "to": to,
            "nonce": quantity(nonce),
            "value": quantity(value),
            "input": data,
            "gas": quantity(gas),
            "gasPrice": quantity(self.base_fee(number)),
            "chainId": quantity(CHAIN_ID),
            "type": "0x0",
            "v": "0x7f2",
            "r": "0x1",
            "s": "0x1",
        }


def bloom(logs: list[dict[str, Any]]) -> str:
    """The filter of a block's logs, as the yellow paper has it."""
    bits = 0
    for log in logs:
        for item in (log["address"], *log["topics"]):
            digest = keccak(bytes.fromhex(item[2:]))
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return f"0x{bits:0512x}"


def decoded(raw: bytes) -> dict[str, Any]:
    """Sender and fields of a signed transaction. Raises Refusal."""
    # Imported when somebody sends one: it takes a second.
    from eth_account import Account
    from eth_account.typed_transactions import TypedTransaction
    from hexbytes import HexBytes
    from rlp import decode as rlp_decode

    try:
        sender = Account.recover_transaction(HexBytes(raw))
        if raw[0] <= 0x7F:
            f = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
            to = bytes(f["to"]) if f.get("to") else b""
            return {
                "sender": sender, "nonce": int(f["nonce"]), "value": int(f["value"]),
                "gas": int(f["gas"]), "to": "0x" + to.hex() if to else None,
                "data": "0x" + bytes(f["data"]).hex(), "chain_id": int(f["chainId"]),
            }  # fmt: skip
        nonce, _, gas, to, value, data, v, _, _ = rlp_decode(raw)
        number = int.from_bytes(v, "big")
        return {
            "sender": sender, "nonce": int.from_bytes(nonce, "big"),
            "value": int.from_bytes(value, "big"), "gas": int.from_bytes(gas, "big"),
            "to": "0x" + to.hex() if to else None, "data": "0x" + data.hex(),
            "chain_id": (number - 35) // 2 if number >= 35 else None,
        }  # fmt: skip
    except Exception as error:
        raise Refusal("rlp: cannot decode the transaction", -32602) from error
