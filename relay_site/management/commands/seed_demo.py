"""`manage.py seed_demo`: the demo tenant, plan, key and operator."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_site import demo


class Command(BaseCommand):
    """Prints what it made or found as one line of JSON; running it again changes nothing."""

    help = "Create the demo tenant, plan, key and operator; print their credentials as JSON."

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed, and print."""
        if settings.IS_PRODUCTION:
            raise CommandError("RELAY_ENV: production gets no demo credentials", returncode=2)
        self.stdout.write(json.dumps(demo.seed(settings.RELAY_VAR).as_dict()))
