"""A mail before it is one: what it says, to a reader of one language. Every mail of the relay's is
written here, from `templates/mail/NAME.txt`, whose first line is the subject."""

from __future__ import annotations

from dataclasses import dataclass

from django.template.loader import render_to_string
from django.utils import translation

_SUBJECT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Letter:
    """What people read: a plain text, and the same words as simple HTML."""

    subject: str
    text: str
    html: str


def write(name: str, /, *, language: str, **context: object) -> Letter:
    """The letter `name` in `language`, a code of LANGUAGES. What `context` holds is shown as it is:
    numbers, amounts, dates and names are the same in every language."""
    with translation.override(language):
        rendered = render_to_string(f"mail/{name}.txt", context)
        first, _, rest = rendered.strip().partition("\n")
        # One line, whatever a payload or a name says: a header ends at a line's end.
        subject = " ".join(first.split())[:_SUBJECT_CHARS]
        text = rest.strip()
        shown = {"subject": subject, "text": text, "language": language}
        return Letter(subject, f"{text}\n", render_to_string("mail/notice.html", shown))
