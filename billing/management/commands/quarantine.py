"""`manage.py quarantine`: usage batches that were put aside, and what becomes of them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.metering import quarantine
from billing.metering.batch import BatchId, MalformedBatch, parse_batch_id
from billing.models import QuarantinedBatch


class Command(BaseCommand):
    """Each row is a transaction of its own; run it again at any time."""

    help = "Usage batches that could not be counted: list them, receive them again, give them up."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to do, and with which."""
        acts = parser.add_subparsers(dest="act", required=True)
        acts.add_parser("list", help="all rows, oldest first")
        release = acts.add_parser("release", help="receive again, after a mend; each counts once")
        release.add_argument("numbers", nargs="+", type=int, metavar="ROW")
        discard = acts.add_parser("discard", help="give up: on nobody's bill, for good")
        discard.add_argument(
            "numbers", nargs="+", metavar="ROW|WORKER-SEQ", help="or the id of a batch that is lost"
        )

    def handle(self, *, act: str, numbers: Any = (), **options: Any) -> None:
        """Raises CommandError with code 1 when any of them could not be done."""
        if act == "list":
            for row in QuarantinedBatch.objects.order_by("pk").defer("text").iterator():
                name = f"{row.worker}-{row.flush_seq:010d}"
                at = f"{row.received_at:%Y-%m-%d %H:%M}"
                self.stdout.write(f"{row.pk:>6}  {at}  {name}  {row.reason}")
            return
        failed = 0
        for number in numbers:
            try:
                said = self._release(number) if act == "release" else self._discard(number)
            except QuarantinedBatch.DoesNotExist:
                said, failed = "no such row: `quarantine list` shows them", failed + 1
            except (MalformedBatch, ValueError) as error:
                said, failed = f"stays: {error}", failed + 1
            self.stdout.write(f"{number}: {said}")
        if failed:
            raise CommandError(f"{failed:,} of {len(numbers):,} failed", returncode=1)

    def _release(self, number: int) -> str:
        return "counted" if quarantine.release(number) else "was counted before: dropped"

    def _discard(self, text: str) -> str:
        if text.isdecimal():
            quarantine.discard(int(text))
            return "discarded"
        batch_id: BatchId = parse_batch_id(text)
        return "discarded" if quarantine.give_up(batch_id) else "has come: nothing to discard"
