"""Which of the models have no table."""

from __future__ import annotations

from typing import Any

from django.apps import apps


class LiveModels:
    """Keeps unmanaged models, whose rows live in Redis, out of every database: of migrations and
    dumps."""

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """False for what has no table, else no opinion."""
        if model_name is None:
            return None
        try:
            model = apps.get_model(app_label, model_name)
        except LookupError:  # of a migration, and gone since
            return None
        return None if model._meta.managed else False
