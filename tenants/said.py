"""What a pure module says to people: it knows no language, so a text and what is put into it stay
apart, and who shows it says it in the reader's. Pure."""

from __future__ import annotations

from collections.abc import Callable


def gettext_noop(text: str) -> str:
    """Mark a text for translation, as Django's own does, and leave it as it is."""
    return text


class Said(ValueError):
    """A line for whoever gave what is refused: `form` with `values` in it. `str()` is English."""

    def __init__(self, form: str, **values: object) -> None:
        super().__init__(form, values)
        self.form, self.values = form, values

    def said(self, translate: Callable[[str], str]) -> str:
        """The line in the language that `translate` puts a form into."""
        form = translate(self.form)
        return form % self.values if self.values else form

    def __str__(self) -> str:
        return self.said(str)
