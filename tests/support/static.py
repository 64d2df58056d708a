"""The static files that each test client looks for anew."""

from __future__ import annotations

from typing import Any

from whitenoise.middleware import WhiteNoiseMiddleware


def find_once() -> None:
    """From now on what is found in the sources is found once a process, and not with each
    `Client()`, which took 13 ms of a core; what is in a `STATIC_ROOT` is looked for as ever."""
    find = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add_files_from_finders(self: Any) -> None:
        if not found:
            others, self.files = self.files, {}
            find(self)
            found.update(self.files)
            self.files = others
        self.files.update(found)

    WhiteNoiseMiddleware.add_files_from_finders = add_files_from_finders
