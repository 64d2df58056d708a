"""`manage.py run_simulator`: a Hyperliquid in a box on one port and in one directory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from streaming.signing.typed_data import Network
from streaming.simulator.engine.coins import DEFAULT_PERPS
from streaming.simulator.files.resume import iso_to_ns
from streaming.simulator.files.writer import Mode
from streaming.simulator.replay.player import Player, Start
from streaming.simulator.replay.sources import UnusableRecording, find
from streaming.simulator.servers.feeds import EVERY_BLOCK, PUBLIC
from streaming.simulator.servers.socket import IDLE_S, SocketRules, UnknownCoin
from streaming.simulator.service import REAL_TIME_BLOCKS_PER_S, serve
from streaming.simulator.simulation import Settings, Simulator


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


class Command(BaseCommand):
    """Run the simulator until SIGTERM or Ctrl-C."""

    help = "Simulates Hyperliquid: node files, /info and the WebSocket, live or recorded."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--dir",
            type=Path,
            help="node data directory to write (needed unless only WS is replayed)",
        )
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=3001, help="0 takes a free one")
        parser.add_argument("--metrics-port", type=int, help="serve Prometheus metrics there")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument(
            "--start-time", help="first block time, ISO UTC or ms since 1970 (default: now)"
        )
        parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.BY_BLOCK)
        parser.add_argument(
            "--blocks-per-s",
            type=positive,
            default=REAL_TIME_BLOCKS_PER_S,
            help="pace; block time advances 70 ms a block anyhow (default: one each 70 ms)",
        )
        parser.add_argument("--coins", type=int, default=DEFAULT_PERPS, help="main perps listed")
        parser.add_argument(
            "--activity", type=positive, default=1.0, help="multiplies what users do"
        )
        parser.add_argument(
            "--reject-share",
            type=float,
            default=0.0,
            help="share of rejected statuses (mainnet 0.95)",
        )
        parser.add_argument(
            "--funding-every-s",
            type=positive,
            default=3_600.0,
            help="time between two fundings (the exchange's: an hour)",
        )
        parser.add_argument(
            "--replica-cmds", action="store_true", help="also write blocks as transactions"
        )
        parser.add_argument(
            "--faucet-usdc",
            type=int,
            default=10_000,
            help="what who asks for a balance without an account may trade with; 0 gives nothing",
        )
        parser.add_argument(
            "--testnet", action="store_true", help="/exchange takes testnet signatures"
        )
        parser.add_argument(
            "--keep-hours", type=int, default=2, help="older hour files are deleted; 0 keeps all"
        )
        parser.add_argument(
            "--public-cadence",
            action="store_true",
            help="books every 5.4 s, fast ones every 0.54 s",
        )
        parser.add_argument(
            "--unknown-coin", type=UnknownCoin, choices=list(UnknownCoin), default=UnknownCoin.DROP
        )
        parser.add_argument(
            "--greet", action="store_true", help="send the old plain-text greeting first"
        )
        parser.add_argument(
            "--no-limits", action="store_true", help="no client limits on the WebSocket"
        )
        parser.add_argument(
            "--idle-s",
            type=positive,
            default=IDLE_S,
            help="drop connections sent nothing for so long",
        )
        parser.add_argument(
            "--replay", type=Path, nargs="+", metavar="PATH", help="serve recorded files instead"
        )
        parser.add_argument(
            "--speed", type=float, default=1.0, help="of the replay; 0 is as fast as possible"
        )
        parser.add_argument(
            "--replay-start", type=Start, choices=list(Start), default=Start.ON_SUBSCRIBE
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal comes. Raises CommandError, one clear line, for what cannot work."""
        try:
            asyncio.run(self._replay(options) if options["replay"] else self._simulate(options))
        except OSError as failure:
            what = failure.filename or f"{options['host']}:{options['port']}"
            raise CommandError(f"{what}: {failure.strerror or failure}") from failure
        except (UnusableRecording, ValueError) as failure:
            raise CommandError(str(failure)) from failure

    async def _simulate(self, options: dict[str, Any]) -> None:
        if options["dir"] is None:
            raise CommandError("--dir is needed: the node's files go there")
        settings = Settings(
            seed=options["seed"],
            start_time_ns=start_time_ns(options["start_time"]),
            perps=options["coins"],
            activity=options["activity"],
            reject_share=options["reject_share"],
            mode=options["mode"],
            keep_hours=options["keep_hours"],
            funding_every_s=options["funding_every_s"],
            replica_cmds=options["replica_cmds"],
            faucet_usdc=options["faucet_usdc"],
            network=Network.TESTNET if options["testnet"] else Network.MAINNET,
        )
        stop = stop_on_signal()
        simulator = Simulator(settings, dir=options["dir"])
        with contextlib.closing(simulator):
            async with serve(
                simulator,
                host=options["host"],
                port=options["port"],
                metrics_port=options["metrics_port"],
                blocks_per_s=None,
                cadence=PUBLIC if options["public_cadence"] else EVERY_BLOCK,
                rules=rules(options),
            ) as service:
                self._announce(
                    f"serving {service.http_url} and {service.ws_url}, writing {options['dir']}"
                )
                await work_until(stop, service.run(blocks_per_s=options["blocks_per_s"]))

    async def _replay(self, options: dict[str, Any]) -> None:
        stop = stop_on_signal()
        player = Player(
            find(options["replay"]),
            dir=options["dir"],
            mode=options["mode"],
            speed=options["speed"],
            start=options["replay_start"],
            rules=rules(options),
        )
        listen = player.listen(
            host=options["host"], port=options["port"], metrics_port=options["metrics_port"]
        )
        async with listen:
            url = f"http://{options['host']}:{player.endpoint.port}"
            self._announce(f"serving {url}, replaying {len(player.market.coins)} coins")
            await work_until(stop, player.run())

    def _announce(self, line: str) -> None:
        self.stdout.write(f"simulator: {line}")
        self.stdout.flush()


def rules(options: dict[str, Any]) -> SocketRules:
    """The socket's strictness as the options ask."""
    return SocketRules(
        unknown_coin=options["unknown_coin"],
        greet=options["greet"],
        limits=not options["no_limits"],
        idle_s=options["idle_s"],
    )


def start_time_ns(text: str | None) -> int | None:
    """`--start-time` in nanoseconds. Raises ValueError for what is neither ISO nor milliseconds."""
    if text is None:
        return None
    return int(text) * 1_000_000 if text.isdigit() else iso_to_ns(text)


def stop_on_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; wanted before the serving line is printed."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def work_until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until `stop`; its failure is ours, its ordinary end is not the end of serving."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            await stopping
    finally:
        task.cancel()
        stopping.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
