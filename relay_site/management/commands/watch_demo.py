"""`manage.py watch_demo`: a live book in the terminal, from the relay that runs here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

import websockets
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_site.secrets import read_json

LEVELS = 8


class Command(BaseCommand):
    """A customer's view: it knows what run.json says and speaks the official dialect."""

    help = "Show a live order book from the relay that `make run` started."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to watch, and how long."""
        parser.add_argument("--coin", default="BTC")
        parser.add_argument("--frames", type=int, default=0, help="stop after so many; 0: Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print frames until interrupted."""
        run = read_json(settings.RELAY_VAR / "run.json")
        if "ws" not in run:
            raise CommandError(f"no relay runs in {settings.RELAY_VAR}: start it with `make run`")
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self._watch(run["ws"], options["coin"], options["frames"]))

    async def _watch(self, url: str, coin: str, frames: int) -> None:
        request = {"method": "subscribe", "subscription": {"type": "l2Book", "coin": coin}}
        shown = 0
        async with websockets.connect(url, compression=None) as socket:
            await socket.send(json.dumps(request))
            async for text in socket:
                message = json.loads(text)
                if message["channel"] == "error":
                    raise CommandError(str(message["data"]))
                if message["channel"] != "l2Book":
                    continue
                self.stdout.write(render_book(message["data"], redraw=sys.stdout.isatty()))
                shown += 1
                if shown == frames:
                    return


def render_book(book: Mapping[str, Any], *, redraw: bool) -> str:
    """The best levels of an l2Book frame's data as a table, asks above bids."""
    bids, asks = book["levels"]
    rows = [f"{book['coin']}  {book['time']}"]
    rows += [f"{'':>14}{ask['px']:>14}{ask['sz']:>14}" for ask in reversed(asks[:LEVELS])]
    rows += [f"{bid['sz']:>14}{bid['px']:>14}" for bid in bids[:LEVELS]]
    clear = "\x1b[2J\x1b[H" if redraw else ""
    return clear + "\n".join(rows)
