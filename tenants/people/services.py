"""All writes to people: who is asked in, who is let in, what they are, and who leaves.

Each holds the tenant's row while it looks and writes, so that two at once cannot leave a tenant
without an owner. Bad input raises ValidationError; what the acting person may not do,
PermissionDenied.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.dashboard_tokens import end_membership
from tenants.models import BillingProfile, Invitation, Membership, Tenant, TermsAcceptance
from tenants.people import tokens
from tenants.people.actors import Actor, allowed, lock
from tenants.people.factors import has_factor
from tenants.people.roles import May, Role, may

#: How long an invitation can be accepted.
INVITATION_LIFE = timedelta(days=7)
#: Of a tenant at one time.
MAX_OPEN_INVITATIONS = 50
#: Of a tenant in 24 hours, also when they are withdrawn in between.
MAX_INVITATIONS_A_DAY = 100
#: Before a member may ask for another mail to the same address.
RESEND_PAUSE = timedelta(minutes=1)
#: What a customer says of itself; the tax fields are the operator's to set.
CUSTOMER_FIELDS = (
    "legal_name",
    "address_line1",
    "address_line2",
    "postal_code",
    "city",
    "region",
    "country",
    "tax_id",
    "invoice_email",
)
TAX_FIELDS = ("tax_name", "tax_percent", "reverse_charge_text")


@transaction.atomic
def invite(
    *, tenant: Tenant, email: str, role: str, by: Actor, now: datetime | None = None
) -> Invitation:
    """Ask somebody in; the mail goes out when this is committed.

    Raises ValidationError for an address that cannot be, is a member's or is invited already, and
    for anybody but an owner in a tenant that has none.
    """
    at = now or timezone.now()
    lock(tenant)
    actor = allowed(by, tenant, may_manage_role=role)
    check_invitable(tenant, email=email, role=role)
    _require_few(tenant, at)
    invitation = Invitation(
        tenant=tenant,
        email=email.strip().lower(),
        role=role,
        invited_by=actor.user,
        created_at=at,
        expires_at=at + INVITATION_LIFE,
    )
    invitation.full_clean()
    invitation.save()
    _send_on_commit(invitation)
    return invitation


def check_invitable(tenant: Tenant, *, email: str, role: str) -> None:
    """Raises ValidationError where `invite` would, for what can be known before."""
    address = email.strip().lower()
    _check_role(role)
    if role != Role.OWNER and not _owners(tenant).exists():
        raise ValidationError(_("The first member of a tenant is its owner: invite an owner."))
    members = Membership.objects.for_tenant(tenant)
    if members.filter(user__emailaddress__email=address, user__emailaddress__verified=True):
        raise ValidationError(_("%(address)s is a member already.") % {"address": address})
    if Invitation.objects.for_tenant(tenant).filter(is_open=True, email=address).exists():
        raise ValidationError(
            _("%(address)s is invited already: resend that, or withdraw it.") % {"address": address}
        )


@transaction.atomic
def resend_invitation(
    invitation: Invitation, *, by: Actor, now: datetime | None = None
) -> Invitation:
    """Another mail with another link, good for as long as a new invitation; the old link opens
    nothing any more."""
    at = now or timezone.now()
    locked, actor = _lock_invitation(invitation, by)
    _require_open(locked)
    is_recent = locked.sent_at is not None and at - locked.sent_at < RESEND_PAUSE
    if is_recent and isinstance(actor, Membership):
        raise ValidationError(_("That mail was sent a moment ago: wait a minute."))
    locked.digest, locked.sent_at, locked.expires_at = None, None, at + INVITATION_LIFE
    locked.save(update_fields=["digest", "sent_at", "expires_at"])
    _send_on_commit(locked)
    return locked


@transaction.atomic
def withdraw_invitation(
    invitation: Invitation, *, by: Actor, now: datetime | None = None
) -> Invitation:
    """Nobody can accept it any more. Withdrawing again keeps the first time."""
    locked = _lock_invitation(invitation, by)[0]
    if locked.withdrawn_at is None:
        _require_open(locked)
        _withdraw(locked, now or timezone.now())
    return locked


@transaction.atomic
def make_token(invitation_id: int) -> tuple[Invitation, str] | None:
    """The invitation and a new token for its mail, or None when no mail is due. Only the token's
    digest is kept, and with it the link of any mail before this ends."""
    invitation = (
        Invitation.objects.select_for_update()
        .filter(pk=invitation_id, is_open=True, sent_at=None)
        .first()
    )
    if invitation is None:
        return None
    token = tokens.generate()
    invitation.digest = tokens.digest(token)
    invitation.save(update_fields=["digest"])
    return invitation, token


@transaction.atomic
def note_sent(invitation: Invitation, *, now: datetime | None = None) -> None:
    """Its mail is on its way, unless a newer one has been asked for meanwhile."""
    Invitation.objects.filter(pk=invitation.pk, digest=invitation.digest).update(
        sent_at=now or timezone.now()
    )


@transaction.atomic
def accept_invitation(*, digest: str, user: User, now: datetime | None = None) -> Membership:
    """Let somebody in who has the link and has proved to own the address.

    Raises ValidationError with the code `unknown`, `withdrawn`, `used`, `expired`, `wrong_address`,
    `member` or `no_owner`.
    """
    at = now or timezone.now()
    found = Invitation.objects.filter(digest=digest).first() if digest else None
    if found is None:
        raise ValidationError(_("No such invitation: ask for a new one."), code="unknown")
    tenant = lock(found.tenant_id)
    invitation = Invitation.objects.select_for_update().get(pk=found.pk)
    if invitation.digest != digest:
        raise ValidationError(_("There is a newer mail: use its link."), code="unknown")
    _require_open(invitation)
    if invitation.expires_at <= at:
        raise ValidationError(_("This invitation has expired: ask for a new one."), code="expired")
    verified = EmailAddress.objects.filter(user=user, verified=True)
    if invitation.email not in {address.email.lower() for address in verified}:
        raise ValidationError(
            _("This invitation is for another e-mail address: sign in with that."),
            code="wrong_address",
        )
    if Membership.objects.for_tenant(tenant).filter(user=user).exists():
        raise ValidationError(
            _("You are a member of %(tenant)s already.") % {"tenant": tenant}, code="member"
        )
    if invitation.role != Role.OWNER and not _owners(tenant).exists():
        raise ValidationError(
            _("%(tenant)s has no owner yet.") % {"tenant": tenant}, code="no_owner"
        )
    membership = Membership.objects.create(tenant=tenant, user=user, role=invitation.role)
    invitation.accepted_at, invitation.accepted_by, invitation.is_open = at, user, None
    invitation.save(update_fields=["accepted_at", "accepted_by", "is_open"])
    return membership


@transaction.atomic
def change_role(membership: Membership, *, role: str, by: Actor) -> Membership:
    """Give a member another role. Raises ValidationError for the last owner's."""
    locked = _lock_membership(membership)
    allowed(by, locked.tenant, may_manage_role=role)
    allowed(by, locked.tenant, may_manage_role=locked.role)
    check_role_change(locked, role=role)
    locked.role = role
    locked.save(update_fields=["role"])
    if not may(role, May.MANAGE_PEOPLE):
        _withdraw_all_of(locked)
    membership.role = role
    return locked


def check_role_change(membership: Membership, *, role: str) -> None:
    """Raises ValidationError where `change_role` would, for what can be known before."""
    _check_role(role)
    if role != Role.OWNER:
        check_removal(membership)


def _check_role(role: str) -> None:
    if role not in list(Role):
        raise ValidationError(
            _("%(role)r is not one of %(roles)s.")
            % {"role": role[:40], "roles": ", ".join(map(_, Role))}
        )


def check_removal(membership: Membership) -> None:
    """Raises ValidationError, with the code `last_owner`, where `remove_member` would."""
    owners = set(_owners(membership.tenant).values_list("pk", flat=True))
    if owners == {membership.pk}:
        raise ValidationError(
            _("%(tenant)s needs an owner: make somebody else one first.")
            % {"tenant": membership.tenant},
            code="last_owner",
        )


@transaction.atomic
def remove_member(membership: Membership, *, by: Actor) -> None:
    """End a membership; everybody may end their own. Raises ValidationError for the last owner's.

    The invitations somebody sent end with it, or one who was removed could come back in.
    """
    locked = _lock_membership(membership)
    if not (isinstance(by, Membership) and by.pk == locked.pk):
        allowed(by, locked.tenant, may_manage_role=locked.role)
    check_removal(locked)
    _withdraw_all_of(locked)
    end_membership(locked)
    locked.delete()


@transaction.atomic
def transfer_ownership(owner: Membership, *, to: Membership, by: Actor) -> Membership:
    """`to` becomes an owner and `owner` an admin, in one step. An owner transfers only its own."""
    if owner.tenant_id != to.tenant_id:
        raise PermissionDenied(_("That is a member of another tenant."))
    giver, taker = _lock_membership(owner), _lock_membership(to)
    if isinstance(by, Membership) and by.pk != giver.pk:
        raise PermissionDenied(_("An owner hands on its own ownership, not another's."))
    allowed(by, giver.tenant, may_manage_role=Role.OWNER)
    if giver.role != Role.OWNER:
        raise ValidationError(_("%(user)s is not an owner.") % {"user": giver.user})
    if giver.pk == taker.pk:
        raise ValidationError(_("%(user)s is the owner already.") % {"user": giver.user})
    taker.role, giver.role = Role.OWNER, Role.ADMIN
    taker.save(update_fields=["role"])
    giver.save(update_fields=["role"])
    owner.role, to.role = giver.role, taker.role
    return taker


@transaction.atomic
def require_second_factor(tenant: Tenant, *, is_on: bool, by: Actor) -> Tenant:
    """Let nobody open the tenant's pages without a second factor, or everybody again. Raises
    ValidationError for an owner who has none: it would be locked out first."""
    locked = lock(tenant)
    actor = allowed(by, locked, act=May.MANAGE_OWNERS)
    if is_on and isinstance(actor, Membership) and not has_factor(actor.user):
        raise ValidationError(_("Set up a second factor of your own first."), code="no_factor")
    locked.requires_second_factor = is_on
    locked.save(update_fields=["requires_second_factor"])
    if is_on:
        from tenants.dashboard_tokens import end_all_of  # which knows people

        end_all_of(locked)  # pages that are open take another, once they have proved it
    tenant.requires_second_factor = is_on
    return locked


@transaction.atomic
def make_first_owner(*, tenant: Tenant, user: User) -> Membership:
    """The person who signed up, of a tenant that has nobody yet. Raises ValidationError if it
    has."""
    lock(tenant)
    if Membership.objects.for_tenant(tenant).exists():
        raise ValidationError(_("%(tenant)s has members already.") % {"tenant": tenant})
    return Membership.objects.create(tenant=tenant, user=user, role=Role.OWNER)


@transaction.atomic
def accept_terms(*, by: Membership, version: str, from_address: str | None) -> TermsAcceptance:
    """Write down that a tenant accepts the terms in force; accepting twice keeps the first time.

    Raises ValidationError for any other version: that is not what was shown.
    """
    tenant = lock(by.tenant_id)
    member = allowed(by, tenant, act=May.ACCEPT_TERMS)
    if version != settings.RELAY_TERMS_VERSION:
        raise ValidationError(
            _("The terms in force are %(in_force)s, not %(version)s: read them anew.")
            % {"in_force": settings.RELAY_TERMS_VERSION, "version": version[:40]}
        )
    acceptance, _is_new = TermsAcceptance.objects.get_or_create(
        tenant=tenant,
        user=member.user,
        version=version,
        defaults={"from_address": from_address or None},
    )
    return acceptance


@transaction.atomic
def save_billing_profile(*, tenant: Tenant, by: Actor, **values: Any) -> BillingProfile:
    """Write `values` into the tenant's one billing profile; what is left out stays.

    A member may write `CUSTOMER_FIELDS`, an operator `TAX_FIELDS` too: the rate follows from the
    law and not from a wish. Raises ValidationError by field.
    """
    if unknown := values.keys() - {*CUSTOMER_FIELDS, *TAX_FIELDS}:
        raise TypeError(f"not of a billing profile: {', '.join(sorted(unknown))}")
    lock(tenant)
    actor = allowed(by, tenant, act=May.EDIT_BILLING_PROFILE)
    if isinstance(actor, Membership) and values.keys() & set(TAX_FIELDS):
        raise PermissionDenied(_("Tax rates are set by the operator: write to support."))
    profile = BillingProfile.objects.for_tenant(tenant).first() or BillingProfile(
        tenant=tenant, legal_name=tenant.name
    )
    for name, value in values.items():
        setattr(profile, name, value)
    profile.full_clean()
    profile.save()
    return profile


def _lock_membership(membership: Membership) -> Membership:
    """As it is now, with its tenant held; it may have changed, or ended, since it was read."""
    lock(membership.tenant_id)
    found = (
        Membership.objects.select_for_update()
        .select_related("tenant", "user")
        .filter(pk=membership.pk)
        .first()
    )
    if found is None:
        raise ValidationError(_("That member has left."))
    return found


def _lock_invitation(invitation: Invitation, by: Actor) -> tuple[Invitation, Actor]:
    tenant = lock(invitation.tenant_id)
    locked = Invitation.objects.select_for_update().get(pk=invitation.pk)
    return locked, allowed(by, tenant, may_manage_role=locked.role)


def _owners(tenant: Tenant) -> Any:
    return Membership.objects.for_tenant(tenant).filter(role=Role.OWNER)


def _require_open(invitation: Invitation) -> None:
    if invitation.accepted_at is not None:
        raise ValidationError(_("This invitation has been used."), code="used")
    if invitation.withdrawn_at is not None:
        raise ValidationError(_("This invitation has been withdrawn."), code="withdrawn")


def _require_few(tenant: Tenant, at: datetime) -> None:
    """Each invitation is a mail in our name to whomever a customer names."""
    sent = Invitation.objects.for_tenant(tenant)
    if sent.filter(is_open=True).count() >= MAX_OPEN_INVITATIONS:
        raise ValidationError(
            _("%(most)s invitations are open; withdraw some of them first.")
            % {"most": MAX_OPEN_INVITATIONS}
        )
    if sent.filter(created_at__gt=at - timedelta(days=1)).count() >= MAX_INVITATIONS_A_DAY:
        raise ValidationError(
            _("%(most)s invitations in 24 hours; wait for more.") % {"most": MAX_INVITATIONS_A_DAY}
        )


def _withdraw(invitation: Invitation, at: datetime) -> None:
    invitation.withdrawn_at, invitation.is_open = at, None
    invitation.save(update_fields=["withdrawn_at", "is_open"])


def _withdraw_all_of(membership: Membership) -> None:
    sent = Invitation.objects.for_tenant(membership.tenant).filter(
        is_open=True, invited_by=membership.user
    )
    for invitation in sent:
        _withdraw(invitation, timezone.now())


def _send_on_commit(invitation: Invitation) -> None:
    from tenants.tasks import send_invitation

    transaction.on_commit(partial(send_invitation.delay, invitation.pk))
