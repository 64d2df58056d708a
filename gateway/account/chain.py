"""Whether a tenant's hash chain holds, checked here and now: all its links, and the entries of one
month as far as somebody can wait for it. `docs/verify_receipts.py` checks the same without us."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext as _

from billing.metering.chain import Digest, Entries, digest, version_of
from billing.metering.receipts import parse_month
from billing.metering.rollup import midnight, month_of
from billing.models import NO_SEAL, LedgerSeal
from gateway.account.errors import BadValue
from tenants.models import Tenant

#: Entries that are hashed for one look: a second or two.
MAX_ENTRIES = 100_000
#: Faults that are told.
MAX_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainCheck:
    """`seals` links from the first to `head_sha256` (64 zeros before the first seal); of
    `month_seals` that hold entries of the month `hashed_seals` with `entries` were hashed again.
    `faults` say where something is not as it was sealed: none, when all is."""

    seals: int
    head_sha256: str
    month: str
    month_seals: int
    hashed_seals: int
    entries: int
    faults: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the month was left out."""
        return self.hashed_seals == self.month_seals


def check(tenant: Tenant, month: str, *, max_entries: int = MAX_ENTRIES) -> ChainCheck:
    """Look at every seal, and at the entries of a month's (`2026-11`). Raises BadValue."""
    try:
        start = midnight(month_of(parse_month(month)))
    except ValueError:
        raise BadValue(
            _("month: %(month)r is no month like 2026-11.") % {"month": month[:20]}
        ) from None
    end = midnight(month_of(start.date() + timedelta(days=31)))
    held = Entries(tenant.pk)
    faults: list[str] = []
    count = position = of_month = hashed = entries = 0
    previous = NO_SEAL
    for seal in LedgerSeal.objects.for_tenant(tenant).order_by("number").iterator():
        number = {"number": seal.number}
        if seal.number != count + 1 or seal.first_position != position + 1:
            faults.append(_("seal %(number)s: something is missing before it") % number)
        if seal.previous_sha256 != previous:
            faults.append(_("seal %(number)s: it names another seal before it") % number)
        if (version := version_of(seal)) is None:
            faults.append(_("seal %(number)s: its hash is not that of what it says") % number)
        if seal.first_hour < end and seal.last_hour >= start:
            of_month += 1
            size = seal.last_position - seal.first_position + 1
            if hashed == of_month - 1 and (not hashed or entries + size <= max_entries):
                hashed += 1
                entries += size
                found = digest(held.between(seal.first_position, seal.last_position), version or 0)
                if found is None or found != Digest(*(getattr(seal, n) for n in Digest._fields)):
                    faults.append(
                        _("seal %(number)s: its entries are not those that were sealed") % number
                    )
        count, position, previous = seal.number, seal.last_position, seal.sha256
    return ChainCheck(
        seals=count,
        head_sha256=previous,
        month=f"{start:%Y-%m}",
        month_seals=of_month,
        hashed_seals=hashed,
        entries=entries,
        faults=tuple(faults[:MAX_FAULTS]),
    )
