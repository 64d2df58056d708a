"""Rows that are written once. What was wrong is put right by another row, never by changing this
one.

The model and its querysets refuse here, with a reason; the database refuses by trigger (in the
migrations of each app), also to those who come past Django.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from django.db import models

_Row = TypeVar("_Row", bound=models.Model)


class AppendOnlyError(TypeError):
    """Somebody tried to change or delete a row of an append-only table."""


def _refuse(model: type[models.Model], act: str) -> NoReturn:
    raise AppendOnlyError(f"{model._meta.verbose_name_plural} are append-only: no {act}")


class AppendOnlyQuerySet(models.QuerySet[_Row]):
    """Reads and inserts. Raises AppendOnlyError for everything else."""

    def update(self, **values: Any) -> NoReturn:
        _refuse(self.model, "update")

    def bulk_update(self, *arguments: Any, **options: Any) -> NoReturn:
        _refuse(self.model, "update")

    def delete(self) -> NoReturn:
        _refuse(self.model, "delete")

    # The admin and Django's deletion call it by these marks, as they do the original.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(self, *arguments: Any, **options: Any) -> list[_Row]:
        if options.get("update_conflicts"):
            _refuse(self.model, "update")
        return super().bulk_create(*arguments, **options)


class AppendOnlyModel(models.Model):
    """A row that can be inserted once. Raises AppendOnlyError for everything else."""

    class Meta:
        abstract = True

    def save(self, *arguments: Any, **options: Any) -> None:
        if not self._state.adding:
            _refuse(type(self), "update")
        # Without it a row built with an id that exists would be an UPDATE.
        options["force_insert"] = True
        super().save(*arguments, **options)

    def delete(self, *arguments: Any, **options: Any) -> NoReturn:
        _refuse(type(self), "delete")
