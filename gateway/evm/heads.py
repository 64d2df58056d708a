"""New blocks for all who follow them: each is asked for once, however many do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import structlog

from gateway.evm import jsonrpc
from gateway.evm.blocks import LogFilter
from gateway.evm.jsonrpc import RpcError
from gateway.evm.methods import METHODS
from gateway.evm.metrics import FOLLOWERS, SKIPPED
from gateway.evm.service import Evm, NodeError
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: After a pause so many blocks are told one by one; older ones a customer reads by `eth_getLogs`.
MAX_BEHIND = 100
RETRY_S = 0.5
#: For whom blocks are asked for, where that counts: nobody in particular.
TENANT = "(heads)"
#: What geth's heads lack of a block.
_NOT_IN_HEADS = ("transactions", "uncles", "size", "totalDifficulty", "withdrawals")
#: How often the nodes are told that somebody follows.
KEEP_S = 5.0

Tell = Callable[[str, bytes], None]


class Follower:
    """One subscription: heads when `logs` is None. `tell` gets its id and each result as JSON."""

    __slots__ = ("id", "logs", "tell")

    def __init__(self, id_: str, logs: LogFilter | None, tell: Tell) -> None:
        self.id, self.logs, self.tell = id_, logs, tell


class Heads:
    """The followers of one process. `run` must be running."""

    def __init__(self, evm: Evm) -> None:
        self._evm = evm
        self._followers: dict[str, Follower] = {}
        self._moved = asyncio.Event()
        self._told = 0  # the last block that was told
        evm.nodes.on_head.append(self._moved.set)

    def add(self, follower: Follower) -> None:
        """Tell it of every block from now on."""
        if not self._followers:
            self._told = self._evm.nodes.head
        self._followers[follower.id] = follower
        FOLLOWERS.labels(_kind(follower)).inc()
        self._moved.set()

    def remove(self, id_: str) -> bool:
        """Whether it was there."""
        gone = self._followers.pop(id_, None)
        if gone is not None:
            FOLLOWERS.labels(_kind(gone)).dec()
        return gone is not None

    async def run(self) -> None:
        """Tell of blocks until cancelled."""
        while True:
            self._moved.clear()
            if self._followers:
                try:
                    await self._advance()
                except (RpcError, NodeError) as error:
                    stop_if_cancelled()
                    log.warning("evm_head_not_read", error=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
            try:
                async with asyncio.timeout(KEEP_S if self._followers else None):
                    await self._moved.wait()
            except TimeoutError:
                pass

    async def _advance(self) -> None:
        head = await self._evm.nodes.current_head()
        if self._told > head or not self._told:
            self._told = head  # another chain
        if head - self._told > MAX_BEHIND:
            SKIPPED.inc(head - MAX_BEHIND - self._told)
            log.warning("evm_heads_skipped", first=self._told + 1, last=head - MAX_BEHIND)
            self._told = head - MAX_BEHIND
        while self._told < head and self._followers:
            await self._tell(self._told + 1)
            self._told += 1

    async def _tell(self, number: int) -> None:
        """Both are read before anybody is told: what fails is told whole by the next try."""
        followers = list(self._followers.values())
        at = hex(number)
        head = logs = None
        if any(follower.logs is None for follower in followers):
            head = _head(await self._read("eth_getBlockByNumber", [at, False]))
        if any(follower.logs is not None for follower in followers):
            logs = await self._read("eth_getLogs", [{"fromBlock": at, "toBlock": at}])
        written = [(orjson.dumps(each), each) for each in logs or []]
        for follower in followers:
            if follower.id not in self._followers:
                continue
            if follower.logs is None:
                if head is not None:
                    follower.tell(follower.id, head)
                continue
            for text, each in written:
                if follower.logs.wants(each):
                    follower.tell(follower.id, text)

    async def _read(self, name: str, params: list[Any]) -> Any:
        answered = await self._evm.result(name, METHODS[name], params, tenant=TENANT)
        found = orjson.loads(answered.result)
        if found is None:
            raise RpcError(jsonrpc.UNAVAILABLE, f"{name} of a block that was said to be there")
        return found


def _head(block: dict[str, Any]) -> bytes:
    return orjson.dumps({name: each for name, each in block.items() if name not in _NOT_IN_HEADS})


def _kind(follower: Follower) -> str:
    return "newHeads" if follower.logs is None else "logs"
