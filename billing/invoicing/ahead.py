"""What the invoices of a chunk of tenants need, read at once, before any of them is locked.

**As exact as without.** Usage read ahead is taken only where the tenant's account, once it is held,
still stands at the position it stood at before the reading: then nothing was posted meanwhile, and
the sums are those of that position. Else it is read again. Of what else there may be (adjustments,
a wallet, an invoice in the tenant's favour) only *whether* there is any is taken; the rows are read
under their locks. What comes into being in the seconds between waits for the next invoice, as what
comes a moment later does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from billing.invoicing import parties
from billing.invoicing.kinds import ALWAYS, Custom
from billing.invoicing.terms_port import Book
from billing.invoicing.usage import Ranges, usage_of, usage_of_many
from billing.models import Account, Adjustment, Seller
from billing.rating.invoice import Usage
from tenants.models import Tenant
from tenants.people.selectors import (
    BillingContacts,
    BillingIdentity,
    billing_contacts,
    billing_identity,
)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was read of `tenants`. Of others everything is still to be asked for."""

    tenants: frozenset[int] = frozenset()
    adjusted: frozenset[int] = frozenset()
    prepaid: frozenset[int] = frozenset()
    positions: Mapping[int, int] = field(default_factory=dict)
    ranges: Mapping[int, Ranges] = field(default_factory=dict)
    usage: Mapping[int, list[Usage]] = field(default_factory=dict)
    known_seller: Seller | None = None
    contacts: BillingContacts | None = None

    def may_be_adjusted(self, tenant_id: int) -> bool:
        """Whether approved adjustments may wait for its next invoice."""
        return tenant_id not in self.tenants or tenant_id in self.adjusted

    def may_have_prepaid(self, tenant_id: int) -> bool:
        """Whether there may be something in its wallet."""
        return tenant_id not in self.tenants or tenant_id in self.prepaid

    def usage_at(
        self, tenant_id: int, position: int, ranges: Ranges, custom: Custom
    ) -> list[Usage]:
        """Its usage in `ranges`, when its account stands at `position`. Read ahead is that of those
        who always were customers."""
        is_known = self.positions.get(tenant_id, 0) == position and custom == ALWAYS
        if tenant_id in self.usage and is_known and self.ranges[tenant_id] == ranges:
            return self.usage[tenant_id]
        return usage_of(tenant_id, ranges, custom)

    def identity_of(self, tenant: Tenant) -> BillingIdentity:
        """Whom its invoice names."""
        return billing_identity(tenant, self.contacts if tenant.pk in self.tenants else None)

    def seller(self) -> Seller:
        """Who issues the invoices."""
        return self.known_seller or parties.seller()


NOTHING = Ahead()


def read_ahead(tenants: Iterable[int], ranges_of: Mapping[int, Ranges], prices: Book) -> Ahead:
    """Read what invoices of `tenants` need, with the usage of those in `ranges_of`, in a number of
    statements that does not grow with theirs."""
    ids = frozenset(tenants)
    # Before the usage, or a batch posted between the two would be in the one and not in the other.
    positions = dict(
        Account.objects.filter(pk__in=ids).order_by().values_list("pk", "last_position")
    )
    adjusted = Adjustment.objects.filter(tenant__in=ids, state=Adjustment.State.APPROVED)
    return Ahead(
        tenants=ids,
        adjusted=frozenset(adjusted.order_by().values_list("tenant_id", flat=True)),
        prepaid=frozenset(prices.prepaid_among(ids)),
        positions=positions,
        ranges=ranges_of,
        usage=usage_of_many(ranges_of),
        known_seller=parties.seller(),
        contacts=billing_contacts(ids),
    )
