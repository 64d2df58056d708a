"""Find the texts of the customers' pages again and write the catalogue under `locale/`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.commands import makemessages

LOCALE = "zh_Hant"
CATALOGUE = settings.BASE_DIR / "locale" / LOCALE / "LC_MESSAGES" / "django.po"
#: What customers' pages do not show: the operator's site, and the public pages, whose texts are in
#: the catalogue of gateway/docsite.
IGNORED = (
    ".venv",
    "var",
    "tests/*",
    "clients/*",
    "gateway/docsite/*",
    "gateway/operations/*",
    "gateway/landing.py",
    "templates/admin/*",
    "templates/docs/*",
    "templates/operations/*",
    "templates/landing.html",
    "templates/public.html",
)


class Command(makemessages.Command):
    """Never guesses: a text that was changed is one that is not translated yet. No line numbers and
    no time either, so that a diff shows texts alone. Needs gettext; the relay does not."""

    help = str(__doc__)
    msgmerge_options = [*makemessages.Command.msgmerge_options, "--no-fuzzy-matching"]

    def handle(self, *args: Any, **options: Any) -> None:
        """Started in the repository, as `make messages` does."""
        CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
        options |= {"locale": [LOCALE], "no_location": True, "no_wrap": True, "no_obsolete": True}
        options["ignore_patterns"] = [*options["ignore_patterns"], *IGNORED]
        super().handle(*args, **options)
        lines = CATALOGUE.read_text("utf-8").splitlines(keepends=True)
        kept = (line for line in lines if not line.startswith('"POT-Creation-Date:'))
        CATALOGUE.write_text("".join(kept), "utf-8")
