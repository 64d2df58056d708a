"""`manage.py replay`: recorded data as the frames a customer would have got, one JSON line each on
stdout.
"""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from streaming.core.blocks import MARKET_KINDS, FileKind
from streaming.core.dialects.official import (
    BadSubscription,
    InvalidSubscription,
    parse_subscription,
)
from streaming.core.public import PublicFeed
from streaming.hl_gateway.assemble import Faults
from streaming.hl_gateway.checkpoint import CheckpointError, read_checkpoint_file
from streaming.hl_gateway.tail import FileMode, NodeFiles, NoNodeFiles, read_directory
from streaming.replay import CheckpointTooOld, Subscription, replay_node, replay_ws

BAD_ARGUMENTS = 2


class BadArguments(CommandError):
    """Ends the command with code 2 and one line."""

    def __init__(self, text: str) -> None:
        super().__init__(text, returncode=BAD_ARGUMENTS)


class Command(BaseCommand):
    """Prints frames to stdout, what could not be used to stderr."""

    help = "Print the frames a subscriber would have got, from recorded files."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """A node directory or WebSocket files, and what to subscribe to."""
        parser.usage = SUPPRESS  # a wrong argument is answered with one line, not with ten of usage
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument(
            "--node-dir", type=Path, metavar="DIR", help="node data, or flat recordings of it"
        )
        source.add_argument(
            "--ws", type=Path, nargs="+", metavar="FILE", help='lines {"ts","payload"}, also .gz'
        )
        parser.add_argument(
            "--l4-snapshot", type=Path, metavar="FILE", help="fileSnapshot with height, also .gz"
        )
        parser.add_argument(
            "--mode", choices=[mode.value for mode in FileMode], help="default: the newer files"
        )
        parser.add_argument(
            "--subscribe",
            action="append",
            default=[],
            metavar="JSON",
            help='as in {"type":"bbo","coin":"BTC"}',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; see the module's text."""
        faults: Counter[str] = Counter()
        subscriptions = [_subscription(text) for text in options["subscribe"]]
        if not subscriptions:
            raise BadArguments("nothing to replay: give at least one --subscribe")
        if options["ws"]:
            if options["l4_snapshot"] or options["mode"]:
                raise BadArguments("--l4-snapshot and --mode go with --node-dir, not with --ws")
            frames = _ws_frames(options["ws"], subscriptions, faults)
        else:
            frames = _node_frames(options, subscriptions, faults)
        try:
            is_whole = _print(frames)
        except (CheckpointTooOld, OSError) as error:
            raise BadArguments(str(error)) from error
        if is_whole and faults:
            counts = ", ".join(f"{reason} {count}" for reason, count in sorted(faults.items()))
            self.stderr.write(f"faults: {counts}")


def _subscription(text: str) -> Subscription:
    try:
        return Subscription(*parse_subscription(orjson.loads(text)))
    except InvalidSubscription as error:
        raise BadArguments(f"--subscribe {text}: not valid: {error}") from error
    except (BadSubscription, ValueError) as error:
        raise BadArguments(f"--subscribe {text}: {error}") from error


def _node_frames(
    options: dict[str, Any], subscriptions: list[Subscription], faults: Counter[str]
) -> Iterator[bytes]:
    node_dir, mode = options["node_dir"], options["mode"] and FileMode(options["mode"])
    if not node_dir.is_dir():
        raise BadArguments(f"--node-dir {node_dir}: no such directory")
    checkpoint = None
    try:
        if options["l4_snapshot"] is not None:
            height, books = read_checkpoint_file(options["l4_snapshot"])
            checkpoint = (height, books)
        file_faults = {kind: Faults(kind) for kind in MARKET_KINDS}
        blocks = read_directory(node_dir, mode=mode, faults=file_faults)
        if mode is None and not NodeFiles(node_dir).all_files(FileKind.DIFFS, FileMode.STREAMING):
            mode = FileMode.BY_BLOCK
    except (CheckpointError, NoNodeFiles, OSError) as error:
        raise BadArguments(str(error)) from error
    yield from replay_node(
        blocks,
        subscriptions=subscriptions,
        checkpoint=checkpoint,
        faults=faults,
        every_block=mode is FileMode.BY_BLOCK,
    )
    for kind, counted in file_faults.items():
        faults.update({f"{kind} {reason}": count for reason, count in counted.counts.items()})


def _ws_frames(
    paths: list[Path], subscriptions: list[Subscription], faults: Counter[str]
) -> Iterator[bytes]:
    for path in paths:
        if not path.is_file():
            raise BadArguments(f"--ws {path}: no such file")
    for subscription in subscriptions:
        if not PublicFeed.can_serve(subscription.topic):
            raise BadArguments(f"recorded WebSocket frames cannot give {subscription.echo}")
    return replay_ws(paths, subscriptions=subscriptions, faults=faults)


def _print(frames: Iterable[bytes]) -> bool:
    """Write each frame as a line; False when the reader went away (`| head`), which is no error."""
    out = sys.stdout.buffer
    try:
        for frame in frames:
            out.write(frame + b"\n")
        out.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
