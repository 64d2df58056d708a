"""Rows that are written once, as `tenants.append_only` has them; the database's triggers are in
`migrations/0004`."""

from tenants.append_only import AppendOnlyError, AppendOnlyModel, AppendOnlyQuerySet

__all__ = ["AppendOnlyError", "AppendOnlyModel", "AppendOnlyQuerySet"]
