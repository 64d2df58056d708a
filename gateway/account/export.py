"""All that an account has here, as one ZIP that is sent while it is made. No secret is in it: of
keys there is what everybody of the account may see."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.utils import timezone

from billing.exports.catalogue import EXPORTS, export_for_tenant
from billing.exports.csv import Column, encode, text, time
from billing.invoicing.documents import document
from billing.models import CreditNote, Invoice
from gateway.account import audit
from tenants.models import APIKey, Invitation, Membership, Tenant, TermsAcceptance
from tenants.people.alerts import alerts_of
from tenants.people.selectors import billing_identity

File = tuple[str, Iterable[bytes]]
_README = """All that this account has at the relay, taken out on {at:%Y-%m-%d %H:%M} UTC.

account.json           the account, its billing profile and which terms were accepted
people.csv             who belongs to it, and who is invited
keys.csv               its keys, without the keys themselves
audit.csv              who changed what
<what>-<year>.csv      invoices, their lines, credit notes, payments and usage; UTF-8, with a header
documents/             invoices and credit notes as they were sent
"""


def export_name(tenant: Tenant, now: datetime) -> str:
    """Of the file: `acme-2026-11-30.zip`."""
    return f"{tenant.slug}-{now:%Y-%m-%d}.zip"


def export(tenant: Tenant, *, now: datetime | None = None) -> Iterator[bytes]:
    """The ZIP, in blocks. Memory is that of one document at a time."""
    at = now or timezone.now()
    return zipped(_files(tenant, at), at)


def zipped(files: Iterable[File], at: datetime) -> Iterator[bytes]:
    """Files as one ZIP that needs no seeking."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, blocks in files:
            entry = zipfile.ZipInfo(name, date_time=at.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                for block in blocks:
                    file.write(block)
                    if sink.held:
                        yield sink.take()
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Where the archive writes; `take` hands on what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self.held += block
        return len(block)

    def take(self) -> bytes:
        taken = bytes(self.held)
        self.held.clear()
        return taken


def _files(tenant: Tenant, at: datetime) -> Iterator[File]:
    yield "README.txt", [_README.format(at=at).encode()]
    yield "account.json", [json.dumps(_account(tenant), indent=2, default=str).encode()]
    yield "people.csv", _csv(_PEOPLE, _people(tenant))
    yield "keys.csv", _csv(_KEYS, _keys(tenant))
    yield "audit.csv", _csv(_AUDIT, _audit(tenant))
    for year in range(tenant.created_at.year, at.year + 1):
        for name, one in EXPORTS.items():
            if one.is_for_tenants:
                yield f"{name}-{year}.csv", export_for_tenant(tenant, name, f"{year:04}")
    for model, lookup in ((Invoice, "tenant"), (CreditNote, "invoice__tenant")):
        rows = model._default_manager.filter(**{lookup: tenant}, number__isnull=False)
        for pk in list(rows.order_by("pk").values_list("pk", flat=True)):
            what: Any = rows.get(pk=pk)
            yield f"documents/{what.number}.pdf", [bytes(document(what, "pdf").body)]


def _csv(columns: tuple[Column, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    return encode(columns, iter(rows), with_internal=False)


def _account(tenant: Tenant) -> dict[str, Any]:
    identity, alerts = billing_identity(tenant), alerts_of(tenant)
    terms = TermsAcceptance.objects.for_tenant(tenant).select_related("user").order_by("pk")
    return {
        "name": tenant.name,
        "short_name": tenant.slug,
        "created_at": tenant.created_at,
        "closed_at": tenant.closed_at,
        "support": {
            "name": tenant.support_name,
            "email": tenant.support_email,
            "phone": tenant.support_phone,
        },
        "billing": {
            "legal_name": identity.legal_name,
            "address": identity.address,
            "country": identity.country,
            "tax_id": identity.tax_id,
            "invoice_emails": identity.invoice_emails,
        },
        "alerts": {
            "thresholds": alerts.thresholds,
            "mail_kinds": alerts.mail_kinds,
            "mail_roles": alerts.mail_roles,
            "mail_addresses": alerts.mail_addresses,
        },
        "terms": [
            {"version": row.version, "accepted_at": row.accepted_at, "by": row.user.email}
            for row in terms
        ],
    }


_PEOPLE = (*text("email", "role", "state"), *time("since"))
_KEYS = (
    *text("prefix", "name", "environment", "scopes", "networks", "origins"),
    *time("created_at", "expires_at", "revoked_at", "last_used_at"),
)
_AUDIT = (*time("at"), *text("who", "from", "act", "kind", "what", "reason", "changes"))


def _people(tenant: Tenant) -> Iterator[tuple[Any, ...]]:
    for row in Membership.objects.for_tenant(tenant).select_related("user").order_by("pk"):
        yield row.user.email, row.role, "member", row.created_at
    for invitation in Invitation.objects.for_tenant(tenant).filter(is_open=True).order_by("pk"):
        yield invitation.email, invitation.role, "invited", invitation.created_at


def _keys(tenant: Tenant) -> Iterator[tuple[Any, ...]]:
    for key in APIKey.objects.for_tenant(tenant).filter(is_dashboard=None).order_by("pk"):
        yield (
            key.prefix,
            key.name,
            key.environment,
            " ".join(key.scopes),
            " ".join(key.allowed_networks),
            " ".join(key.allowed_origins),
            key.created_at,
            key.expires_at,
            key.revoked_at,
            key.last_used_at,
        )


def _audit(tenant: Tenant) -> Iterator[tuple[Any, ...]]:
    for row in audit.every_entry(tenant):
        changes = "; ".join(f"{name}: {before} → {after}" for name, before, after in row.changes)
        yield row.at, row.who, row.from_address, row.act, row.kind, row.what, row.reason, changes
