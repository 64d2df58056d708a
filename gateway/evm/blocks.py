"""Which block a call is about. Pure.

`latest` is replaced by the number of the newest block this process knows, so that one customer
never sees the chain go back whichever node answers, and all who ask at the same block share an
answer. The chain is final at once: a block that a node has shown does not change.
"""

from __future__ import annotations

from typing import Any

from gateway.evm.jsonrpc import BAD_PARAMS, RpcError
from gateway.evm.methods import Keep, Method

#: Blocks of one `eth_getLogs`.
MAX_LOG_BLOCKS = 1_000
NEWEST = frozenset({"latest", "safe", "finalized"})
#: Addresses, topics, and what may stand in the place of one.
MAX_ADDRESSES, MAX_TOPICS, MAX_ALTERNATIVES = 100, 4, 50


def settled(
    name: str, method: Method, params: list[Any], head: int
) -> tuple[list[Any], int | None]:
    """The parameters with numbers for the names of blocks, and the block the answer is about; None
    where it is about none, or about what is not in a block yet. Raises RpcError."""
    if name == "eth_getLogs":
        return _logs(params, head)
    if method.block is None:
        return params, head if method.keep is Keep.HEAD else None
    place = method.block
    if len(params) < place:
        raise RpcError(BAD_PARAMS, f"{name} needs {place} parameters before the block.")
    params = [*params, *(["latest"] if len(params) == place else [])]
    params[place], number = _number(params[place], head)
    return params, number


def _number(tag: Any, head: int) -> tuple[Any, int | None]:
    if tag is None:
        tag = "latest"
    if isinstance(tag, dict):  # EIP-1898
        if "blockNumber" in tag:
            return _number(tag["blockNumber"], head)
        return tag, None
    if not isinstance(tag, str):
        raise RpcError(BAD_PARAMS, 'A block is "latest", "pending", "earliest" or "0x…".')
    if tag in NEWEST:
        return hex(head), head
    if tag == "earliest":
        return "0x0", 0
    if tag == "pending":
        return tag, None
    if len(tag) == 66:  # by its hash
        return tag, None
    number = quantity(tag, "block")
    return hex(number), number


def quantity(text: Any, what: str) -> int:
    """A number of JSON-RPC. Raises RpcError."""
    try:
        if not isinstance(text, str) or not text.startswith("0x") or not 3 <= len(text) <= 66:
            raise ValueError
        return int(text, 16)
    except ValueError:
        raise RpcError(BAD_PARAMS, f'{what} must be a number such as "0x1b4".') from None


def _logs(params: list[Any], head: int) -> tuple[list[Any], int | None]:
    if len(params) != 1 or not isinstance(params[0], dict):
        raise RpcError(BAD_PARAMS, "eth_getLogs takes one filter.")
    wanted = dict(params[0])
    check_filter(wanted)
    if "blockHash" in wanted:
        return [wanted], None
    ends = []
    for name in ("fromBlock", "toBlock"):
        tag = wanted.get(name)
        if isinstance(tag, dict) or (isinstance(tag, str) and len(tag) == 66):
            # As a number of 66 characters it would pass by the limit of blocks.
            raise RpcError(BAD_PARAMS, f"{name} is a number or a name; by a hash it is blockHash.")
        wanted[name], number = _number(wanted.get(name, "latest"), head)
        ends.append(head if number is None else number)
        if wanted[name] == "pending":
            wanted[name] = hex(head)
    begin, end = ends[0], min(ends[1], head)
    if end - begin >= MAX_LOG_BLOCKS:
        raise RpcError(
            BAD_PARAMS,
            f"A range of {end - begin + 1:,} blocks: ask for {MAX_LOG_BLOCKS:,} at most.",
            limit=MAX_LOG_BLOCKS,
        )
    # Beyond the newest block there may be more a moment later.
    return [wanted], end if ends[1] <= head else None


def check_filter(wanted: dict[str, Any]) -> None:
    """Raises RpcError for a filter of logs that is none, or too large."""
    addresses = wanted.get("address") or []
    addresses = [addresses] if isinstance(addresses, str) else addresses
    topics = wanted.get("topics") or []
    if not _texts(addresses, MAX_ADDRESSES):
        raise RpcError(BAD_PARAMS, f"address must be one, or an array of {MAX_ADDRESSES} at most.")
    if not isinstance(topics, list) or len(topics) > MAX_TOPICS:
        raise RpcError(BAD_PARAMS, f"topics must be an array of {MAX_TOPICS} at most.")
    for topic in topics:
        if topic is not None and not isinstance(topic, str) and not _texts(topic, MAX_ALTERNATIVES):
            text = f"A topic is null, one, or an array of {MAX_ALTERNATIVES} at most."
            raise RpcError(BAD_PARAMS, text)


def _texts(values: Any, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(isinstance(value, str) for value in values)
    )


class LogFilter:
    """What a subscription to logs wants."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        """Raises RpcError."""
        check_filter(wanted)
        addresses = wanted.get("address") or []
        named = [addresses] if isinstance(addresses, str) else addresses
        self._addresses = frozenset(each.lower() for each in named)
        self._topics = [
            None
            if topic is None
            else frozenset(t.lower() for t in ([topic] if isinstance(topic, str) else topic))
            for topic in wanted.get("topics") or []
        ]

    def wants(self, log: dict[str, Any]) -> bool:
        """Whether a log is one of them."""
        if self._addresses and str(log.get("address", "")).lower() not in self._addresses:
            return False
        topics = log.get("topics") or []
        if len(self._topics) > len(topics):
            return False
        return all(
            not wanted or str(have).lower() in wanted  # none in particular: any
            for wanted, have in zip(self._topics, topics, strict=False)
        )
