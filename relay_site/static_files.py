"""How static files are named in production."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):
    """By their content, also where one script imports another: else a browser could pair a page's
    new script with an old one that it has kept."""

    support_js_module_import_aggregation = True
