"""Every JSON-RPC method: who may call it, what it weighs, and how long its answer stays true. One
table. Pure.

Weights are in the units of `/info`'s rate: what a node reads from memory is 1, what it executes 2
to 4, what walks over blocks 20.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Permission(StrEnum):
    """Who may call it, with a key of the scope `evm`."""

    READ = "read"
    SEND = "send"  # moves something: sent once, never again
    SUBSCRIBE = "subscribe"  # on a WebSocket alone
    REFUSED = "refused"  # a node's own keys, files and inner life


class Keep(StrEnum):
    """How long an answer stays true."""

    NEVER = "never"
    CHAIN = "chain"  # as long as the chain is this one
    HEAD = "head"  # of the newest block, whatever it is: until the next
    BLOCK = "block"  # of the block that a parameter names: a block never changes
    FOUND = "found"  # of what a hash names, once it is in a block


class Method(NamedTuple):
    """`block` is the place of the parameter that names a block, None where there is none."""

    permission: Permission
    weight: int = 1
    keep: Keep = Keep.NEVER
    block: int | None = None


def _each(names: str, method: Method) -> dict[str, Method]:
    return dict.fromkeys(names.split(), method)


_READ = Permission.READ
_REFUSED = Method(Permission.REFUSED)

METHODS: dict[str, Method] = {
    **_each("eth_chainId net_version", Method(_READ, 1, Keep.CHAIN)),
    **_each("web3_clientVersion eth_protocolVersion", Method(_READ, 1, Keep.HEAD)),
    **_each("net_listening eth_syncing eth_accounts eth_mining eth_hashrate", Method(_READ)),
    "eth_blockNumber": Method(_READ, 1, Keep.HEAD),
    **_each(
        "eth_gasPrice eth_maxPriorityFeePerGas eth_bigBlockGasPrice", Method(_READ, 1, Keep.HEAD)
    ),
    "eth_feeHistory": Method(_READ, 4, Keep.BLOCK, 1),
    **_each(
        "eth_getBlockByNumber eth_getBlockTransactionCountByNumber"
        " eth_getUncleCountByBlockNumber eth_getTransactionByBlockNumberAndIndex",
        Method(_READ, 2, Keep.BLOCK, 0),
    ),
    **_each("eth_getBlockReceipts eth_getSystemTxsByBlockNumber", Method(_READ, 10, Keep.BLOCK, 0)),
    **_each(
        "eth_getBlockByHash eth_getBlockTransactionCountByHash eth_getTransactionByHash"
        " eth_getTransactionReceipt eth_getTransactionByBlockHashAndIndex"
        " eth_getUncleCountByBlockHash",
        Method(_READ, 2, Keep.FOUND),
    ),
    "eth_getSystemTxsByBlockHash": Method(_READ, 10, Keep.FOUND),
    **_each("eth_getBalance eth_getCode", Method(_READ, 1, Keep.BLOCK, 1)),
    "eth_getTransactionCount": Method(_READ, 1, Keep.BLOCK, 1),
    "eth_getStorageAt": Method(_READ, 1, Keep.BLOCK, 2),
    "eth_getProof": Method(_READ, 10, Keep.BLOCK, 2),
    "eth_call": Method(_READ, 2, Keep.BLOCK, 1),
    "eth_createAccessList": Method(_READ, 4, Keep.BLOCK, 1),
    "eth_estimateGas": Method(_READ, 4, Keep.HEAD),
    # Its blocks are named inside of its parameter.
    "eth_getLogs": Method(_READ, 20, Keep.BLOCK),
    "eth_usingBigBlocks": Method(_READ, 1, Keep.HEAD),
    "eth_sendRawTransaction": Method(Permission.SEND, 4),
    **_each("eth_subscribe eth_unsubscribe", Method(Permission.SUBSCRIBE, 1)),
    # A filter lives in one node, and its reader would be sent to another.
    **_each(
        "eth_newFilter eth_newBlockFilter eth_newPendingTransactionFilter eth_uninstallFilter"
        " eth_getFilterChanges eth_getFilterLogs",
        _REFUSED,
    ),
    **_each("eth_sendTransaction eth_sign eth_signTransaction eth_signTypedData", _REFUSED),
}
#: Namespaces that are a node's own business.
REFUSED_NAMESPACES = ("admin", "clique", "debug", "engine", "miner", "personal", "trace", "txpool")


def method_of(name: str) -> Method | None:
    """The row of a method; None for one that does not exist."""
    found = METHODS.get(name)
    if found is None and name.partition("_")[0] in REFUSED_NAMESPACES:
        return _REFUSED
    return found


def label_of(name: str) -> str:
    """A method as metrics and records name it."""
    return name if name in METHODS else "(refused)" if method_of(name) else "(unknown)"
