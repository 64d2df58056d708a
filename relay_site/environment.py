"""Typed reads from the environment that collect every problem instead of stopping at the first.

A process that is about to refuse its settings should name all that is wrong with them at once, so a
read never raises: it notes the problem, without the value of a secret, and goes on with the
default.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

PREFIX = "RELAY_"
DATABASE_SCHEMES = ("mysql", "sqlite")
SMTP = "django.core.mail.backends.smtp"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_WORD = re.compile(r"[0-9A-Za-z._-]+")
_HOST = re.compile(r"[0-9A-Za-z_.:\[\]-]+")


class Environment:
    """One process's environment.

    `NAME_FILE` may stand for any `NAME`: the value is then the text of that file without its last
    newline. `problems` forbid a start, `warnings` do not; each is one line that begins with the
    variable's name.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._variables = variables
        self._known: set[str] = set()

    def is_set(self, name: str) -> bool:
        """Whether `name` or `NAME_FILE` is given and not empty."""
        return bool(self._variables.get(name) or self._variables.get(f"{name}_FILE"))

    def text(self, name: str, default: str = "") -> str:
        """The value as it is; an empty one counts as unset."""
        self._known |= {name, f"{name}_FILE"}
        path = self._variables.get(f"{name}_FILE", "")
        if not path:
            return self._variables.get(name, "") or default
        if self._variables.get(name):
            self.problems.append(f"{name}: set twice, by itself and by {name}_FILE; keep one")
        try:
            return Path(path).read_text("utf-8").rstrip("\r\n") or default
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self.problems.append(f"{name}_FILE: cannot read {path} ({reason})")
            return default

    def choice(self, name: str, *, of: Iterable[str], default: str) -> str:
        """One of the words `of`."""
        value, words = self.text(name, default), tuple(of)
        if value in words:
            return value
        self.problems.append(f"{name}: {value!r} is not one of {', '.join(words)}")
        return default

    def switch(self, name: str, *, default: bool) -> bool:
        """On or off. `True ` with a space is a mistake worth naming, not a False."""
        value = self.text(name)
        if not value:
            return default
        if value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        self.problems.append(f"{name}: {value!r} is not a switch (write 1 or 0)")
        return default

    def number(self, name: str, *, default: float, least: float, most: float) -> float:
        """A finite number within `least` and `most`."""
        return self._bounded(name, float, "a number", default, least, most)

    def integer(self, name: str, *, default: int, least: int, most: int) -> int:
        """A whole number within `least` and `most`."""
        return self._bounded(name, int, "a whole number", default, least, most)

    def port(self, name: str, *, default: int) -> int:
        """A TCP port, 1 to 65535."""
        return self.integer(name, default=default, least=1, most=65535)

    def host(self, name: str, *, default: str) -> str:
        """An address or host name to listen on."""
        value = self.text(name, default)
        if _HOST.fullmatch(value):
            return value
        self.problems.append(f"{name}: {value!r} is not a host name or address")
        return default

    def word(self, name: str, *, default: str, most: int = 32) -> str:
        """A name of up to `most` letters, digits, dots, dashes and underscores."""
        value = self.text(name, default)
        if len(value) <= most and _WORD.fullmatch(value):
            return value
        self.problems.append(
            f"{name}: {value[:50]!r} is not a name of at most {most} letters, digits and ._-"
        )
        return default

    def words(self, name: str, *, default: Iterable[str] = ()) -> list[str]:
        """A comma-separated list; blanks around and empty entries are dropped."""
        value = self.text(name)
        if not value:
            return list(default)
        return [word.strip() for word in value.split(",") if word.strip()]

    def networks(self, name: str, *, default: Iterable[str] = ()) -> list[str]:
        """A comma-separated list of addresses and networks (`10.0.0.0/8`); bad ones are noted and
        left out."""
        good = []
        for word in self.words(name, default=default):
            try:
                good.append(str(ipaddress.ip_network(word, strict=False)))
            except ValueError:
                self.problems.append(f"{name}: {word!r} is not an address or network")
        return good

    def folder(self, name: str, *, default: Path) -> Path:
        """An absolute path; `~` is the home directory."""
        value = self.text(name)
        return (Path(value).expanduser() if value else default).absolute()

    def database(self, name: str, *, default: dict[str, Any]) -> dict[str, Any]:
        """A Django database from a URL. No problem quotes the URL: it holds a password."""
        url = self.text(name)
        if not url:
            return dict(default)
        if url.partition("://")[0] in DATABASE_SCHEMES:
            with contextlib.suppress(ImproperlyConfigured, ValueError, KeyError):
                if (found := environ.Env.db_url_config(url)).get("NAME"):
                    return dict(found)
        self.problems.append(
            f"{name}: not a database URL (mysql://user:password@host/name or sqlite:////path;"
            " URL-encode the password)"
        )
        return dict(default)

    def mail(self, name: str, *, default: str) -> dict[str, Any]:
        """`EMAIL_…` settings from a URL, which no problem quotes: it holds a password."""
        url = self.text(name, default)
        with contextlib.suppress(ImproperlyConfigured, ValueError, KeyError):
            found = dict(environ.Env.email_url_config(url))
            if found["EMAIL_BACKEND"].rpartition(".")[0] != SMTP or found["EMAIL_HOST"]:
                # A URL has one slash before its path, and a folder's name another.
                found["EMAIL_FILE_PATH"] = "/" + found["EMAIL_FILE_PATH"].lstrip("/")
                return found
        self.problems.append(
            f"{name}: not a mail URL (smtp+tls://user:password@host:587, smtp://host:25,"
            " filemail:///folder, consolemail://; URL-encode user and password)"
        )
        return dict(environ.Env.email_url_config(default))

    def warn_of_unknown(self, prefix: str = PREFIX) -> None:
        """Warn of each variable that has our prefix and that nobody read: most likely misspelt."""
        for name in sorted(self._variables):
            if name.startswith(prefix) and name not in self._known:
                self.warnings.append(f"{name}: unknown setting, ignored")

    def know(self, *names: str) -> None:
        """Declare names that something else than the settings reads."""
        self._known.update(names)

    def _bounded(
        self,
        name: str,
        cast: type[T],
        what: str,
        default: T,
        least: T,
        most: T,
    ) -> T:
        value = self.text(name)
        if not value:
            return default
        try:
            number = cast(value)  # type: ignore[call-arg]
        except ValueError:
            self.problems.append(f"{name}: {value!r} is not {what}")
            return default
        if not least <= number <= most:  # type: ignore[operator]
            self.problems.append(f"{name}: {value} is not between {least} and {most}")
            return default
        return number
