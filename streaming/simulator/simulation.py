"""A seeded exchange, one block at a time, written to node files when it has a directory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streaming.signing.typed_data import Network
from streaming.simulator.engine.accounts import Account, cast
from streaming.simulator.engine.block import Block
from streaming.simulator.engine.coins import DEFAULT_PERPS, Coin, listing
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.flow import Flow
from streaming.simulator.engine.ledger import Ledger
from streaming.simulator.files.replica import ReplicaWriter
from streaming.simulator.files.resume import last_block
from streaming.simulator.files.writer import Mode, NodeWriter
from streaming.simulator.trading.desk import TradingDesk

BLOCK_NS = 70_000_000  # mainnet spaces its blocks by 65-70 ms
FIRST_HEIGHT = 1_100_000_000
RESTART_GAP = 100  # blocks a restarted node has missed: 7 s of them
OIDS_PER_BLOCK = 1_000  # more than a block uses on average, so that ids grow across restarts
FIRST_OID = 400_000_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides a simulation. Equal settings give equal blocks; `start_time_ns` None means now.

    `activity` multiplies how much users do. `reject_share` (0 ≤ share < 1) adds rejected orders
    until they are that share of all statuses (mainnet BTC: 0.95). `perps` is how many main perps
    are listed. `funding_every_s` is the time between two fundings (the exchange's: an hour).
    `replica_cmds` also writes the blocks as transactions, 0.1 MB/s of them. `faucet_usdc` is what
    whoever asks for a balance without having an account may begin to trade with; `network` is the
    one whose signatures /exchange takes.
    """

    seed: int = 1
    start_time_ns: int | None = None
    perps: int = DEFAULT_PERPS
    activity: float = 1.0
    reject_share: float = 0.0
    mode: Mode = Mode.BY_BLOCK
    keep_hours: int = 2
    funding_every_s: float = 3_600.0
    replica_cmds: bool = False
    faucet_usdc: int = 0
    network: Network = Network.MAINNET

    def __post_init__(self) -> None:
        if not 0 <= self.reject_share < 1:
            raise ValueError(f"reject_share must be in [0, 1), not {self.reject_share}")
        if self.perps < 1:
            raise ValueError(f"perps must be at least 1, not {self.perps}")
        if self.faucet_usdc < 0:
            raise ValueError(f"faucet_usdc must not be below 0, not {self.faucet_usdc}")
        if self.funding_every_s < 1:
            raise ValueError(f"funding_every_s must be at least 1, not {self.funding_every_s}")


class Simulator:
    """A Hyperliquid in a box. `step` makes the next block; nothing happens between two steps.

    With `dir` every block is written there as a node writes it, and a simulator that finds a node's
    files there goes on above their last height, with empty books refilled, as a restarted node that
    missed some blocks would. `now_ns` is the local clock: it stamps `local_time` and names the
    hourly files, and decides nothing else.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        dir: Path | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings or Settings()
        self.coins: tuple[Coin, ...] = listing(perps=self.settings.perps)
        self.accounts: dict[str, Account] = cast(self.coins)
        first_time_ns = self.settings.start_time_ns or now_ns()
        self.height = FIRST_HEIGHT
        previous = last_block(dir) if dir else None
        if previous is not None:
            self.height = previous.height + RESTART_GAP
            first_time_ns = max(first_time_ns, previous.time_ns + RESTART_GAP * BLOCK_NS)
        self.time_ns = first_time_ns - BLOCK_NS
        self.exchange = Exchange(
            coins=self.coins,
            accounts=self.accounts,
            first_oid=FIRST_OID + (self.height - FIRST_HEIGHT) * OIDS_PER_BLOCK,
        )
        for tape in self.exchange.tapes.values():
            tape.origin_ms = first_time_ns // 1_000_000
        # The height is part of the seed: a restart must not repeat the orders it began with.
        rng = random.Random(f"{self.settings.seed}:{self.height}")  # noqa: S311 - a simulation, not a secret
        self._flow = Flow(
            self.exchange,
            rng=rng,
            activity=self.settings.activity,
            reject_share=self.settings.reject_share,
        )
        self._ledger = Ledger(
            self.exchange,
            # Its own dice: the orders of a seed are the same with and without it.
            rng=random.Random(f"ledger:{self.settings.seed}:{self.height}"),  # noqa: S311
            funding_ns=int(self.settings.funding_every_s * 1e9),
        )
        self.trading = TradingDesk(
            self.exchange,
            network=self.settings.network,
            faucet_usdc=self.settings.faucet_usdc,
        )
        self._writer = (
            NodeWriter(
                dir, mode=self.settings.mode, now_ns=now_ns, keep_hours=self.settings.keep_hours
            )
            if dir
            else None
        )
        self._replica = (
            ReplicaWriter(dir, now_ns=now_ns, keep_hours=self.settings.keep_hours)
            if dir and self.settings.replica_cmds
            else None
        )
        self._is_open = False

    def step(self) -> Block:
        """Make the next block, write it if there is a directory, and return it. The first one opens
        all books.
        """
        self.height += 1
        self.time_ns += BLOCK_NS
        self.exchange.begin(height=self.height, time_ns=self.time_ns)
        if self._is_open:
            self.trading.run_block()
            self._flow.run_block()
            self._ledger.run_block()
        else:
            self._flow.open_market()
            self._is_open = True
        block = self.exchange.end()
        if self._writer is not None:
            self._writer.write(block)
        if self._replica is not None:
            self._replica.write(block)
        self.trading.answer()
        return block

    def close(self) -> None:
        """Close the node files."""
        if self._writer is not None:
            self._writer.close()
        if self._replica is not None:
            self._replica.close()
