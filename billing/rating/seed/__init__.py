"""The plans to begin with: prices that the field really asks, for tests and for a first start.

The one place of this room that reads a file: its own.
"""

from __future__ import annotations

from importlib.resources import files

from billing.rating.document import Catalogue, read_catalogue


def load() -> Catalogue:
    """The seed plans and add-ons, checked."""
    return read_catalogue(files(__name__).joinpath("plans.json").read_bytes())
