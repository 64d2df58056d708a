"""Fields that the pages' forms share."""

from __future__ import annotations

from typing import Any

from django import forms

from gateway.account.errors import AccountError


class LinesField(forms.CharField):
    """A list of texts, each on a line of its own."""

    def __init__(self, **options: Any) -> None:
        widget = forms.Textarea({"rows": 3, "spellcheck": "false", "class": "font-mono"})
        super().__init__(required=False, widget=widget, **options)

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


def number(text: str) -> int:
    """A whole number as a form sends it, such as an id; 0 for what is none, and for what is longer
    than any of ours."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def add_error(form: forms.Form, error: AccountError) -> None:
    """Say what a use case refused, beside the field that it names (`field: why`) if it names one of
    the form's."""
    name, separator, why = str(error).partition(": ")
    if separator and name in form.fields:
        form.add_error(name, why)
    else:
        form.add_error(None, str(error))
