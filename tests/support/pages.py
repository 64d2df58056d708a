"""What a page costs the suite that no test is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.contrib import admin
from django.template import Context, Template
from django.test import utils
from django.test.signals import template_rendered
from whitenoise.middleware import WhiteNoiseMiddleware


def find_static_once() -> None:
    """From now on what is found in the sources is found once a process, and not with each
    `Client()`, which took 13 ms of a core; what is in a `STATIC_ROOT` is looked for as ever."""
    find = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add_files_from_finders(self: Any) -> None:
        if not found:
            others, self.files = self.files, {}
            find(self)
            found.update(self.files)
            self.files = others
        self.files.update(found)

    WhiteNoiseMiddleware.add_files_from_finders = add_files_from_finders


def keep_contexts_of_pages() -> None:
    """From now on `response.context` is that of the page, and not of each of the hundred templates
    it is put together from: a copy of each was an eighth of a page."""

    def render(self: Template, context: Context) -> Any:
        if context.template is self:
            template_rendered.send(sender=self, template=self, context=context)
        return self.nodelist.render(context)

    utils.instrumented_test_render = render


@contextmanager
def without_frame() -> Iterator[None]:
    """The admin's pages without the list of all others beside them, which is the same on each and
    four tenths of its work."""
    site = admin.site.__class__
    with (
        mock.patch.object(site, "get_app_list", return_value=[]),
        mock.patch.object(site, "get_sidebar_list", return_value=[]),
    ):
        yield
