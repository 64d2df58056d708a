"""The moment at which a process accepts or refuses its settings."""

from __future__ import annotations

import gc
import sys

from django.apps import AppConfig
from django.conf import settings

EXIT_BAD_SETTINGS = 2


class RelaySiteConfig(AppConfig):
    """Wiring. Refuses bad settings for every process in one place, before anything is bound."""

    name = "relay_site"
    verbose_name = "HL Relay"

    def ready(self) -> None:
        """Print every problem and exit with 2; `manage.py up` lists them itself, beside what else
        it finds.
        """
        gc.freeze()  # what is imported by now stays
        gc.enable()  # `manage.py` begins without
        # Tasks sent from any process go through our Celery, which the first import makes the
        # default.
        import relay_site.celery  # noqa: F401

        if not settings.SETTINGS_PROBLEMS or sys.argv[1:2] == ["up"]:
            return
        for problem in settings.SETTINGS_PROBLEMS:
            sys.stderr.write(f"{problem}\n")
        raise SystemExit(EXIT_BAD_SETTINGS)
