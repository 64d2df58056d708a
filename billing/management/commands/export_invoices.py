"""`manage.py export_invoices`: what finance needs of a month or a year, as CSV files."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from billing.exports import catalogue, csv, summary
from billing.exports.files import write_whole
from billing.exports.scope import Scope, parse_period

#: After how long an export says how far it is, and then how often.
TELL_EVERY_S = 5.0


class Command(BaseCommand):
    """Writes a file for each export, and checks that the period ties together."""

    help = (
        "Export a period's invoices, lines, credit notes, payments, usage, taxes and reports as "
        "CSV. Ends with 1 if something does not tie to the books, 2 if it cannot be written."
    )
    #: Into a folder, and into a single file.
    what: tuple[str, ...] = tuple(catalogue.EXPORTS)
    only = "invoices"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Of when, what, and where to."""
        parser.add_argument("--period", required=True, type=_period, metavar="YYYY-MM|YYYY")
        parser.add_argument(
            "--out",
            required=True,
            type=Path,
            help="a folder; or, for one export, a file that ends in .csv",
        )
        parser.add_argument(
            "--what",
            type=_names,
            metavar="NAME,…",
            help=f"by default {','.join(self.what)}; into a file, {self.only}",
        )
        parser.add_argument(
            "--skip-ledger",
            action="store_true",
            help="do not compare each invoice with the usage ledger, which takes longest",
        )

    def handle(
        self,
        *,
        period: Scope,
        out: Path,
        what: tuple[str, ...] | None,
        skip_ledger: bool,
        **options: Any,
    ) -> None:
        """Raises CommandError with code 1 for a difference, 2 for a file."""
        began = time.monotonic()
        files = self._files(period, out, what)
        # One moment for all files: a payment that comes in meanwhile is in none of them.
        with transaction.atomic():
            for name, path in files.items():
                if name != "summary":
                    self._write(path, catalogue.export(name, period), name)
            if time.monotonic() - began >= TELL_EVERY_S:
                print(f"checking that {period} ties together", file=sys.stderr, flush=True)
            found = list(summary.checks(period, with_ledger=not skip_ledger))
        if "summary" in files:
            rows = (summary.row_of(period, check) for check in found)
            self._write(files["summary"], csv.encode(summary.COLUMNS, rows), "summary")
        wrong = [check for check in found if not check.is_equal]
        for check in wrong:
            self.stderr.write(
                f"{check.name}: {check.one} {check.one_amount}, {check.other} {check.other_amount}"
            )
        if wrong:
            raise CommandError(f"{period} does not tie: {len(wrong)} differences", returncode=1)

    def _files(self, period: Scope, out: Path, what: tuple[str, ...] | None) -> dict[str, Path]:
        if out.suffix == ".csv" and not out.is_dir():
            names = what or (self.only,)
            if len(names) > 1:
                raise CommandError(
                    f"{out} is one file, for {len(names)} exports: name a folder", returncode=2
                )
            return {names[0]: out}
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{out}: {error.strerror}", returncode=2) from error
        return {name: out / catalogue.file_name(name, str(period)) for name in what or self.what}

    def _write(self, path: Path, blocks: Any, name: str) -> None:
        try:
            size = write_whole(path, blocks, progress=_teller(name))
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}", returncode=2) from error
        self.stdout.write(f"{path}: {size:,} bytes")


def _teller(name: str) -> Callable[[int], None]:
    """Says on stderr how far it is, now and then."""
    told = time.monotonic()

    def tell(size: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= TELL_EVERY_S:
            told = now
            print(f"{name}: {size / 1e6:,.0f} MB so far", file=sys.stderr, flush=True)

    return tell


def _period(text: str) -> Scope:
    try:
        return parse_period(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    try:
        for name in names:
            catalogue.find(name)
    except catalogue.UnknownExport as error:
        raise ArgumentTypeError(str(error)) from None
    if not names:
        raise ArgumentTypeError(f"name one or more of {', '.join(catalogue.EXPORTS)}")
    return names
