"""`manage.py load_plans [FILE]`: publish the plans and add-ons of a price book."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.catalogue.load import Loaded, load
from billing.rating import seed
from billing.rating.document import Catalogue, read_catalogue
from billing.rating.fields import MAX_TEXT_CHARS, MalformedDocument
from billing.rating.money import render


class Command(BaseCommand):
    """All of the book or, when any of it is refused, nothing. A second run changes nothing."""

    help = "Publish the plans and add-ons of a price book (docs/prices.md); by default the seed's."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, metavar="FILE")
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")

    def handle(self, *args: Any, **options: Any) -> None:
        book = seed.load() if options["file"] is None else _read(options["file"])
        found = load(book, by="load_plans", is_dry=options["dry_run"])
        for row in found:
            self.stdout.write(_line(row))
        refused = [row for row in found if row.state == "refused"]
        if refused:
            lines = [f"{row.prices.code}: {text}" for row in refused for text in row.mistakes]
            raise CommandError("\n".join(["Nothing was published:", *lines]))
        new = sum(row.state == "new" for row in found)
        verb = "would be published" if options["dry_run"] else "published"
        self.stdout.write(f"{new} {verb}, {len(found) - new} as they were.")


def _read(path: Path) -> Catalogue:
    try:
        with path.open("rb") as file:
            text = file.read(4 * MAX_TEXT_CHARS)
    except OSError as error:
        raise CommandError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return read_catalogue(text)
    except MalformedDocument as error:
        lines = [f"{path}: {mistake}" for mistake in error.mistakes]
        raise CommandError("\n".join(lines)) from None


def _line(row: Loaded) -> str:
    prices = row.prices
    return (
        f"{row.state:8} {row.kind:6} {prices.code:20} version {prices.version:<3} "
        f"fee {render(prices.fee):>8}  from {prices.effective_from:%Y-%m-%d %H:%M}"
    )
