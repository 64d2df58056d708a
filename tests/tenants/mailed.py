"""What the tests ask of a mail that was sent, in either language."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage

from tenants.admission.keys import SCANNER_PATTERN
from tenants.models import ChosenLanguage

CHINESE = "zh-hant"
in_both_languages = pytest.mark.parametrize("language", ["en", CHINESE])
_HAN = re.compile("[\u4e00-\u9fff]")
#: What a Chinese text too says in Latin letters, besides what it was given to show.
_TERMS = ("API", "Webhook", "UTC", "IP", settings.RELAY_SITE_NAME)


def reads(user: User, language: str) -> User:
    """Somebody who has chosen that language."""
    ChosenLanguage.objects.update_or_create(user=user, defaults={"language": language})
    return user


def assert_reads(message: EmailMessage, language: str, *, shown: Iterable[object] = ()) -> None:
    """The mail, its subject too, is in one language, whole; `shown` are names, numbers and texts
    that are the same in both."""
    texts = [str(message.subject), str(message.body)]
    assert all(text.strip() for text in texts)
    assert not re.search(r"\{|\}|%\(|None|%%", "".join(texts)), texts
    if language != CHINESE:
        assert not _HAN.search("".join(texts)), texts
        return
    assert _HAN.search(texts[0]), texts[0]
    text = "\n".join(texts)
    for known in sorted(map(str, (*shown, *_TERMS)), key=len, reverse=True):
        text = text.replace(known, "")
    assert not re.findall(r"[A-Za-z]{2,}", text), text


def assert_no_secret(message: EmailMessage) -> None:
    """Neither a key nor what signs or logs in."""
    raw = message.message().as_string() + str(message.subject) + str(message.body)
    assert not re.search(SCANNER_PATTERN, raw)
    assert not re.search(r"whsec_|password=|sessionid|redis://", raw)
    assert str(settings.SECRET_KEY) not in raw
