"""`manage.py up`: the whole relay on one machine, under one small supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from relay_site.preflight import all_problems
from relay_site.processes import die_with_parent

EXIT_REFUSED = 2
EXIT_NOT_SERVING = 3


class Command(BaseCommand):
    """Refuses with exit code 2, and every reason, before anything is bound; 3 when a part does not
    come up.
    """

    help = "Run everything on this machine: Redis, migrations, demo data and all processes."
    # The preflight says it in one line each; Django's checks are `make check`.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How we end."""
        parser.add_argument(
            "--with-parent",
            action="store_true",
            help="stop when the process that started this one is gone (for `make run`)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        if options["with_parent"]:
            die_with_parent(signal.SIGTERM)
        os.umask(0o077)  # everything in RELAY_VAR is its owner's alone
        for warning in settings.SETTINGS_WARNINGS:
            self.stderr.write(f"warning: {warning}")
        problems, lock = all_problems(settings)
        if problems or lock is None:
            for problem in problems:
                self.stderr.write(problem)
            sys.exit(EXIT_REFUSED)
        from relay_site.embedded import EmbeddedRelay, Unreachable
        from relay_site.supervisor import StartFailed

        self._say(f"Starting the relay in {settings.RELAY_VAR}")

        async def run() -> None:
            assert lock is not None  # noqa: S101
            await EmbeddedRelay(lock=lock, say=self._say).run()

        try:
            asyncio.run(run())
        except (StartFailed, Unreachable) as failure:
            self.stderr.write(str(failure))
            sys.exit(EXIT_NOT_SERVING)
        finally:
            lock.release()

    def _say(self, line: str) -> None:
        # The terminal may be gone (SIGHUP, a closed pipe); the children matter more.
        with contextlib.suppress(OSError):
            self.stdout.write(line)
            self.stdout.flush()
