"""`manage.py payment_setup SLUG`: where a tenant leaves a card or account with the provider."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.payments import customers
from billing.payments.chosen import provider
from billing.payments.provider import ProviderError
from tenants.models import Tenant


class Command(BaseCommand):
    """Makes the tenant known to the provider, and prints the address of its page."""

    help = "Prints where a tenant leaves a way to pay. The address is the tenant's alone."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose."""
        parser.add_argument("tenant", metavar="SLUG")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for an unknown tenant, and where the provider does not do it."""
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']}")
        try:
            self.stdout.write(customers.setup_method(provider(), tenant))
        except ProviderError as error:
            raise CommandError(f"{provider().name}: {error}") from None
