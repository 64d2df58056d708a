"""Every mail's words are in a template, and every word of a template can be translated."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import allauth
import pytest
from django.conf import settings
from django.template.base import Lexer, TokenType

from tenants import letters
from tenants.letters import Letter

FOLDER: Path = settings.BASE_DIR / "templates" / "mail"
TEMPLATES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
#: Tags around a text of the catalogue, tags with one, and tags with a file's name.
_BLOCKS = ("blocktranslate", "blocktrans")
_LITERAL = ("translate", "trans")
_OF_FILES = ("load", "extends", "include")
_LETTER = r"[^\W\d_]"
#: The mail of the admin's button, which speaks English as the admin does.
OPERATORS = {"gateway/backoffice/mail_test.py"}


def untranslated(source: str) -> list[str]:
    """What a template says outside a tag that translates it."""
    said, literals, is_inside = "", "", False
    for token in Lexer(source).tokenize():
        tag = token.contents.split(maxsplit=1)[0] if token.contents.strip() else ""
        if token.token_type == TokenType.TEXT:
            said += "" if is_inside else token.contents
            continue
        said += "\0"  # not a space: a tag of HTML may go on behind it
        if token.token_type == TokenType.BLOCK and tag.removeprefix("end") in _BLOCKS:
            is_inside = not tag.startswith("end")
        if token.token_type != TokenType.BLOCK or tag not in (*_LITERAL, *_OF_FILES):
            literals += re.sub(r"""date:("[^"]*"|'[^']*')""", "", token.contents) + "\n"
    texts = re.sub(r"<[^>]*>", "\0", said).split("\0")
    found = [text.strip() for text in texts if re.search(_LETTER, text)]
    return found + re.findall(rf"""["'][^"'\n]*{_LETTER}[^"'\n]*["']""", literals)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("Hello, {% translate 'you' %}", ["Hello,"]),
        ("{% blocktranslate %}Hello{% endblocktranslate %} you", ["you"]),
        ("<p lang='en'>{{ name|default:'nobody' }}</p>", ["'nobody'"]),
        ("{% blocktranslate with a=b|default:'no' %}{{ a }}{% endblocktranslate %}", ["'no'"]),
        ("{% firstof a 'nobody' %}", ["'nobody'"]),
        ("<b>你好</b>", ["你好"]),
        ("<p>- {{ at|date:'Y-m-d H:i' }}: {% translate 'now' %}\n  7 %</p>", []),
    ],
)  # fmt: skip
def test_words_outside_a_tag_are_found(source: str, said: list[str]) -> None:
    assert untranslated(source) == said


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_mail_says_nothing_that_cannot_be_translated(path: Path) -> None:
    assert not untranslated(path.read_text("utf-8"))


def test_no_module_words_a_mail_itself() -> None:
    """What an `EmailMessage` says comes from a letter: no text and no f-string of its own."""
    builders = []
    for package in ("billing", "gateway", "relay_site", "streaming", "tenants"):
        for path in sorted((settings.BASE_DIR / package).rglob("*.py")):
            name = path.relative_to(settings.BASE_DIR).as_posix()
            source = path.read_text("utf-8")
            assert not re.search(r"\b(send_mail|send_mass_mail|mail_admins)\(", source) or (
                "def send_mail(" in source
            ), name
            for node in ast.walk(ast.parse(source)):
                called = getattr(node, "func", None)
                if getattr(called, "id", "") not in ("EmailMessage", "EmailMultiAlternatives"):
                    continue
                builders.append(name)
                assert isinstance(node, ast.Call)
                assert not node.args, name
                for given in node.keywords:
                    said = [
                        each
                        for each in ast.walk(given.value)
                        if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    ]
                    is_ours = given.arg in ("subject", "body")
                    assert not (is_ours and said) or name in OPERATORS, (name, given.arg)
    assert set(builders) >= {*OPERATORS, "tenants/notices/mail.py", "billing/invoicing/sending.py"}


def test_each_mail_of_the_accounts_has_a_letter_of_ours() -> None:
    """Of those that allauth ships; a newer one may bring more."""
    shipped = Path(allauth.__file__).parent / "templates"
    # A log-in by code, and a link instead of a code, are off.
    off = {"login_code", "password_reset_key"}
    found = {
        path.name.removesuffix("_subject.txt")
        for room in ("account", "mfa")
        for path in (shipped / room / "email").glob("*_subject.txt")
    }
    ours = {path.stem for path in (FOLDER / "account").glob("*.txt")}
    assert len(found) > 15
    assert found - off <= ours


def test_the_first_line_is_the_subject_whatever_it_holds() -> None:
    says = {"seller": "Relay\r\nBcc: all@acme.example", "number": "7", "buyer": "<b>Acme</b>"}
    letter = letters.write("document.invoice", language="en", amount="1", currency="USD", **says)
    assert isinstance(letter, Letter)
    assert letter.subject == "Invoice 7 from Relay"
    assert "<b>Acme</b>," in letter.text
    assert "&lt;b&gt;Acme" in letter.html
    assert '<html lang="en">' in letter.html
