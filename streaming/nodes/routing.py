"""Which of the models have no table."""

from __future__ import annotations

from typing import Any


class LiveModels:
    """Keeps `OpenSession`, which lives in Redis, out of every database: of migrations and dumps."""

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """False for what has no table, else no opinion."""
        return False if (app_label, model_name) == ("nodes", "opensession") else None
