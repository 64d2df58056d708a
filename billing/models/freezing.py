"""Rows that may change while they are a draft, and never after.

The model and its querysets refuse here, with a reason; the database refuses by trigger (migration
0006), also to those who come past Django.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, TypeVar

from django.db import models

_Row = TypeVar("_Row", bound=models.Model)


class FrozenError(TypeError):
    """Somebody tried to change or delete what is final."""


def _refuse(row: models.Model, act: str) -> NoReturn:
    raise FrozenError(f"{type(row)._meta.verbose_name} {row.pk} is final: no {act}")


class FreezingQuerySet(models.QuerySet[_Row]):
    """Reads, inserts, and changes of drafts. Raises FrozenError where a final row is among them."""

    def _check(self, act: str) -> None:
        model: Any = self.model
        final = self.exclude(**{model.draft_lookup(): "draft"}).first()
        if final is not None:
            _refuse(final, act)

    def update(self, **values: Any) -> int:
        self._check("update")
        return super().update(**values)

    def bulk_update(self, objs: Any, *arguments: Any, **options: Any) -> int:
        self.filter(pk__in=[row.pk for row in objs])._check("update")
        return super().bulk_update(objs, *arguments, **options)

    def delete(self) -> tuple[int, dict[str, int]]:
        self._check("delete")
        return super().delete()

    # The admin and Django's deletion call it by these marks, as they do the original.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class FreezingModel(models.Model):
    """A row with a `state` of its own, or of the row that `thaws_with` names."""

    thaws_with: ClassVar[str] = ""

    class Meta:
        abstract = True

    def save(self, *arguments: Any, **options: Any) -> None:
        if not self._state.adding:
            self._check("update")
        super().save(*arguments, **options)

    def save_locked(self) -> None:
        """Save a row that is new, or that this transaction has locked and seen to be a draft."""
        super().save()

    def delete(self, *arguments: Any, **options: Any) -> tuple[int, dict[str, int]]:
        self._check("delete")
        return super().delete(*arguments, **options)

    @classmethod
    def draft_lookup(cls) -> str:
        """The field by which a draft is known."""
        return f"{cls.thaws_with}__state" if cls.thaws_with else "state"

    def _check(self, act: str) -> None:
        # By the database's word, not by the row in hand, which may be old or have been edited.
        rows = type(self)._base_manager.filter(pk=self.pk)
        state = rows.values_list(self.draft_lookup(), flat=True).first()
        if state not in {None, "draft"}:
            _refuse(self, act)
