"""`manage.py run_hl_gateway`: beside a node, its blocks over gRPC."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from streaming.hl_gateway import command
from streaming.hl_gateway.config import CannotListen


class Command(BaseCommand):
    """Follows a node's files and serves them to the workers."""

    help = "Serve one node's blocks, checkpoints and /info over gRPC, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The same as `python -m streaming.hl_gateway` has."""
        command.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        try:
            command.run(options, say=self.stdout.write)
        except command.BadOptions as error:
            raise CommandError(str(error), returncode=2) from error
        except CannotListen as error:
            raise CommandError(str(error)) from error
