"""`manage.py reset_second_factor WHO --reason TEXT`: for a person whose device is lost."""

from __future__ import annotations

import getpass
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from tenants.people.factors import reset_factors


class Command(BaseCommand):
    """Takes all factors of one person. An operator is led to set up a new one at the next page of
    the admin; the old one's sessions see no page of it any more."""

    help = "Take a person's second factors, recovery codes too, after a lost device. Audited."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose, and why."""
        parser.add_argument("who", metavar="WHO", help="the user's name, or e-mail address")
        parser.add_argument("--reason", required=True, help="for the audit: who asked, how proved")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for nobody, for several, and for who has no factor."""
        who = options["who"]
        by_address = Q(emailaddress__email__iexact=who, emailaddress__verified=True)
        found = list(
            User.objects.filter(Q(username=who) | Q(email__iexact=who) | by_address).distinct()[:2]
        )
        if len(found) != 1:
            text = "nobody is called" if not found else "more than one person is called"
            raise CommandError(f"{text} {who}: write the user's name, as the admin has it.")
        try:
            types = reset_factors(found[0], by=_account(), reason=options["reason"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(f"{found[0].get_username()}: {', '.join(types)} taken away.")


def _account() -> str:
    """Who runs this, as the machine knows them."""
    try:
        return f"command line, {getpass.getuser()}"
    except (KeyError, OSError):
        return "command line"
