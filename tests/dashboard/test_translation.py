"""The customers' pages in Traditional Chinese: the catalogue has every text of the sources and
nothing else, and every page is shown in it. Without gettext: what it would find is found here by
what Django makes of a template and by the syntax trees of modules."""

from __future__ import annotations

import ast
import gettext
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.translation.template import templatize

from billing.models import InvoiceEvent, Payment, PaymentAllocation, WalletEntry
from gateway.account.invoices import INTERNAL_EVENTS
from gateway.dashboard.management.commands.dashboard_messages import CATALOGUE, IGNORED
from gateway.dashboard.words import word
from tenants.models import APIKey, Delivery
from tenants.people.roles import ALLOWED, May, Role
from tests.dashboard.reading import english
from tests.dashboard.test_access import ROWS
from tests.tenants.cast import Cast
from tests.tenants.people import make_member, owner_of, signed_in

#: A context, a text, and its plural; empty where there is none.
Text = tuple[str, str, str]

ROOT: Path = settings.BASE_DIR
PACKAGES = ("billing", "gateway", "relay_site", "streaming", "tenants", "templates")
#: What a function's first arguments are, as xgettext is told by makemessages.
MARKS = {
    "_": "t",
    "gettext": "t",
    "gettext_lazy": "t",
    "gettext_noop": "t",
    "ngettext": "tp",
    "ngettext_lazy": "tp",
    "pgettext": "ct",
    "pgettext_lazy": "ct",
    "npgettext": "ctp",
    "npgettext_lazy": "ctp",
}
_LITERAL = r"""u?(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
_CALL = re.compile(rf"\b(n?p?gettext|_)\(\s*({_LITERAL}(?:\s*,\s*{_LITERAL})*)")
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%%|\{\w+\}|</?\w+>")
HAN = re.compile("[\u4e00-\u9fff]")


def _sources(suffix: str) -> list[Path]:
    found = [path for name in PACKAGES for path in sorted((ROOT / name).rglob(f"*{suffix}"))]
    return [
        path
        for path in found
        if not any(fnmatch(path.relative_to(ROOT).as_posix(), each) for each in IGNORED)
    ]


def _marked(name: str, strings: list[str]) -> Text:
    given = dict(zip(MARKS[name], strings, strict=False))
    return given.get("c", ""), given["t"], given.get("p", "")


def _of_module(path: Path) -> set[Text]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
            given = node.args[: len(MARKS[node.func.id])]
            strings = [one.value for one in given if isinstance(one, ast.Constant)]
            if strings and all(isinstance(one, str) for one in strings):
                found.add(_marked(node.func.id, [str(one) for one in strings]))
    return found


def _of_template(path: Path) -> set[Text]:
    made = templatize(path.read_text("utf-8"), origin=str(path))
    return {
        _marked(name, list(ast.literal_eval(f"[{strings}]")))
        for name, strings in _CALL.findall(made)
    }


def _po(path: Path) -> tuple[dict[Text, str], list[str]]:
    """A catalogue's texts with their translations, and its lines of flags."""
    found: dict[Text, str] = {}
    text = path.read_text("utf-8")
    for block in text.split("\n\n")[1:]:
        parts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            head, _, literal = line.partition('"')
            name = head.strip() or name
            parts[name] = parts.get(name, "") + ast.literal_eval(f'"{literal}')
        if parts:
            key = parts.get("msgctxt", ""), parts["msgid"], parts.get("msgid_plural", "")
            assert key not in found, f"twice in the catalogue: {key}"
            found[key] = parts["msgstr[0]" if "msgid_plural" in parts else "msgstr"]
    return found, re.findall(r"^#, .*", text, re.MULTILINE)


CHINESE, FLAGS = _po(CATALOGUE)


def test_a_module_calls_gettext_by_names_that_are_found() -> None:
    """`gettext_lazy as lazy` would work, and its texts would never reach a translator."""
    for path in _sources(".py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation":
                called = {each.asname or each.name for each in node.names if "gettext" in each.name}
                assert called <= set(MARKS), f"{path.relative_to(ROOT)}: {called - set(MARKS)}"


def test_the_catalogue_has_what_the_sources_have() -> None:
    found: set[Text] = set()
    for path in _sources(".py"):
        found |= _of_module(path)
    for suffix in (".html", ".txt"):
        for path in _sources(suffix):
            found |= _of_template(path)
    # A text that is once alone and once with its plural is one entry of a catalogue.
    plurals = {(context, text) for context, text, plural in found if plural}
    found = {one for one in found if one[2] or one[:2] not in plurals}
    assert len(found) > 1000
    assert not found - set(CHINESE), "make messages, and translate what has an empty msgstr"
    assert not set(CHINESE) - found, "make messages takes out what nobody says any more"


def test_every_text_is_translated() -> None:
    assert not [text for text, chinese in CHINESE.items() if not chinese.strip()]
    assert not [flags for flags in FLAGS if "fuzzy" in flags]


def test_placeholders_are_the_same() -> None:
    """Where there is a plural its own: Chinese has that form alone."""
    differ = [
        (text, chinese)
        for (_, text, plural), chinese in CHINESE.items()
        if sorted(PLACEHOLDER.findall(plural or text)) != sorted(PLACEHOLDER.findall(chinese))
    ]
    assert not differ


def test_what_is_read_is_what_was_written() -> None:
    """The .mo is that of the .po."""
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        read = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    texts: dict[Any, str] = {name: text for name, text in read.items() if name}
    written: dict[Any, str] = {}
    for (context, text, plural), chinese in CHINESE.items():
        name = f"{context}\x04{text}" if context else text
        written[(name, 0) if plural else name] = chinese
    assert texts == written, "make messages writes the .mo again"


def test_roles_and_rights_have_words() -> None:
    names = {str(one) for one in (*Role, *May, *ALLOWED)}
    assert names <= {text for _, text, _ in CHINESE}


@pytest.mark.parametrize(
    "labels",
    [
        Payment.Method.labels,
        PaymentAllocation.Kind.labels,
        WalletEntry.Kind.labels,
        [one.label for one in InvoiceEvent.Kind if one not in INTERNAL_EVENTS],
        APIKey.Environment.labels,
        Delivery.State.labels,
    ],
)
def test_labels_that_pages_show_have_words(labels: list[str]) -> None:
    """`get_kind_display|word`, of each kind."""
    with translation.override("zh-hant"):
        assert not [one for one in labels if not HAN.search(word(one)) and one != "USDC"]


# What a page shows.


@pytest.fixture
def owner(cast: Cast) -> Client:
    return signed_in(owner_of(cast.acme).user)


@pytest.fixture(autouse=True)
def _shared(redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url


#: Their heading is a name or a number, which is the same in every language.
NAMED = {"invoice", "key", "webhook-delivery"}
#: What was written down is told as it was.
AS_WRITTEN = {"audit"}


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row.method == "get"))
def test_a_page_speaks_chinese(owner: Client, cast: Cast, name: str) -> None:
    """Asked for by the browser, and by the choice that the menu leaves in a cookie."""
    row = ROWS[name]
    url = reverse(f"dashboard:{name}", kwargs={"slug": "acme", **row.arguments(cast)})
    answer = owner.get(url, row.data, headers={"Accept-Language": "zh-hant"})
    owner.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hant"
    chosen = owner.get(url, row.data, headers={"Accept-Language": "en"})
    assert answer.status_code == chosen.status_code
    if answer.streaming or "<!doctype html>" not in answer.content.decode().lower():
        return  # A file, or a part of a page.
    # What is gone says so with 410.
    assert answer.status_code in ((200, 410) if name in ("connection", "trace") else (200,))
    for each in (answer, chosen):
        text = each.content.decode()
        headings = re.findall(r"<h1[^>]*>(.*?)</h1>", text, re.DOTALL)
        assert '<html lang="zh-hant"' in text
        assert headings
        assert name in NAMED or HAN.search(headings[0]), headings
        assert HAN.search(re.search(r"<nav.*?</nav>", text, re.DOTALL).group())  # type: ignore[union-attr]
        assert name in AS_WRITTEN or not english(text)


@pytest.mark.django_db
def test_a_refusal_speaks_chinese(cast: Cast) -> None:
    owner_of(cast.acme)
    vera = signed_in(make_member(cast.acme, "vera", Role.VIEWER).user)
    answer = vera.get("/app/acme/keys/", headers={"Accept-Language": "zh-hant"})
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "您在此處的角色是 檢視者，不得檢視金鑰。可以的角色：擁有者, 管理員, 開發者。" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url", ["/accounts/login/", "/accounts/signup/", "/race/", "/invitations/x/", "/no-such-page/"]
)
def test_a_visitors_page_speaks_chinese(client: Client, url: str) -> None:
    text = client.get(url, headers={"Accept-Language": "zh-hant"}).content.decode()
    headings = re.findall(r"<h1[^>]*>(.*?)</h1>", text, re.DOTALL)
    assert headings
    assert HAN.search(headings[0]), headings
