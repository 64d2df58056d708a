"""Team: who belongs to the account and who is asked to, in which roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway.account.profile import members
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.forms import number
from gateway.dashboard.words import word
from tenants.models import Invitation, Membership
from tenants.people import factors, services
from tenants.people.roles import ALLOWED, May, Role, may, may_manage

#: What a role is for, beside its name.
ROLES = {
    Role.OWNER: gettext_lazy("everything, also owners and the end of the account"),
    Role.ADMIN: gettext_lazy("everything but owners and the end of the account"),
    Role.DEVELOPER: gettext_lazy("keys, connections and usage"),
    Role.FINANCE: gettext_lazy("invoices, payments and the billing profile"),
    Role.VIEWER: gettext_lazy("usage and the team"),
}


class InviteForm(forms.Form):
    """Whom to ask in, and as what."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"), widget=forms.EmailInput({"autocomplete": "off"})
    )
    role = forms.ChoiceField(label=gettext_lazy("Role"))

    def __init__(self, *args: Any, by: str, **options: Any) -> None:
        super().__init__(*args, **options)
        choices = [(str(one), word(one)) for one in _roles_of(by)]
        self.fields["role"].choices = choices  # type: ignore[attr-defined]
        self.fields["role"].initial = str(Role.DEVELOPER)


@page(may=May.SEE_PEOPLE, methods=("GET", "HEAD", "POST"))
def team(request: PageRequest) -> HttpResponse:
    """The members, and for who manages them the invitations; posted, another one."""
    role = request.membership.role
    manages = may(role, May.MANAGE_PEOPLE)
    form = InviteForm(request.POST or None, by=role) if manages else None
    if request.method == "POST":
        if form is None:
            raise PermissionDenied
        if form.is_valid():
            try:
                services.invite(
                    tenant=request.tenant,
                    email=form.cleaned_data["email"],
                    role=form.cleaned_data["role"],
                    by=request.membership,
                )
            except ValidationError as error:
                form.add_error("email", list(error.messages))
            else:
                messages.success(request, _("%(email)s is invited by mail.") % form.cleaned_data)
                return redirect("dashboard:team", slug=request.tenant.slug)
    now = timezone.now()
    people = members(request.tenant)
    asked = (
        list(Invitation.objects.open().filter(tenant=request.tenant).order_by("-created_at", "-pk"))
        if manages
        else []
    )
    context = {
        "people": [
            {
                "row": row,
                "is_me": row.pk == request.membership.pk,
                "may_manage": manages and may_manage(role, of=row.role),
            }
            for row in people
        ],
        "invitations": [
            {"row": row, "state": row.state(now), "may_manage": may_manage(role, of=row.role)}
            for row in asked
        ],
        "form": form,
        "roles": [(one, ROLES[one]) for one in Role],
        "given": _roles_of(role),
        "manages": manages,
        "owns": may(role, May.MANAGE_OWNERS),
        "may_require": may(role, May.MANAGE_OWNERS),
        "has_factor": factors.has_factor(request.user),
        "heirs": [row for row in people if row.role != Role.OWNER],
        "most": services.MAX_OPEN_INVITATIONS,
        "is_full": len(asked) >= services.MAX_OPEN_INVITATIONS,
        "life_days": services.INVITATION_LIFE.days,
        "site_url": settings.RELAY_SITE_URL,
    }
    status = 422 if form is not None and form.is_bound else 200
    return render(request, "dashboard/people/team.html", context, status=status)


@page(may=May.MANAGE_PEOPLE, methods=("POST",))
def invitation(request: PageRequest, pk: int) -> HttpResponse:
    """Send an invitation's mail again, or (`withdraw`) let nobody accept it any more."""
    row = Invitation.objects.for_tenant(request.tenant).filter(pk=pk).first()
    if row is None:
        raise Http404
    if "withdraw" in request.POST:
        done = _("The invitation of %(email)s is withdrawn.")
        act: Callable[..., Any] = services.withdraw_invitation
    else:
        done = _("%(email)s gets another mail; the link of the one before opens nothing.")
        act = services.resend_invitation
    return _carry_out(request, lambda: act(row, by=request.membership), done % {"email": row.email})


@page(may=May.MANAGE_PEOPLE, methods=("POST",), when_closed=True)
def member(request: PageRequest, pk: int) -> HttpResponse:
    """Give a member another role (`role`), or (`remove`) end the membership."""
    row = _member(request, pk)
    if "remove" in request.POST:
        return _carry_out(
            request,
            lambda: services.remove_member(row, by=request.membership),
            _("%(who)s is no member any more.") % {"who": row.user.email},
        )
    role = request.POST.get("role", "")
    return _carry_out(
        request,
        lambda: services.change_role(row, role=role, by=request.membership),
        _("%(who)s is %(role)s now.") % {"who": row.user.email, "role": word(role)},
    )


@page(may=May.SEE_PEOPLE, methods=("POST",), when_closed=True)
def leave(request: PageRequest) -> HttpResponse:
    """End one's own membership."""
    try:
        services.remove_member(request.membership, by=request.membership)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("dashboard:team", slug=request.tenant.slug)
    messages.success(request, _("You have left %(name)s.") % {"name": request.tenant.name})
    return redirect("dashboard:home")


@page(may=May.MANAGE_OWNERS, methods=("POST",))
def transfer(request: PageRequest) -> HttpResponse:
    """Hand on one's own ownership to another member, and be an admin."""
    row = _member(request, number(request.POST.get("to", "")))
    return _carry_out(
        request,
        lambda: services.transfer_ownership(request.membership, to=row, by=request.membership),
        _("%(who)s is an owner now, and you are an admin.") % {"who": row.user.email},
    )


@page(may=May.MANAGE_OWNERS, methods=("POST",))
def second_factor(request: PageRequest) -> HttpResponse:
    """Ask everybody for a second factor (`on`), or nobody."""
    is_on = "on" in request.POST
    return _carry_out(
        request,
        lambda: services.require_second_factor(request.tenant, is_on=is_on, by=request.membership),
        _("Everybody needs a second factor now.") if is_on else _("No second factor is needed."),
    )


def _carry_out(request: PageRequest, act: Callable[[], Any], done: str) -> HttpResponse:
    try:
        act()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    except PermissionDenied as error:
        messages.error(request, str(error) or _("Your role does not allow this"))
    else:
        messages.success(request, done)
    return redirect("dashboard:team", slug=request.tenant.slug)


def _member(request: PageRequest, pk: int) -> Membership:
    rows = Membership.objects.for_tenant(request.tenant).select_related("user", "tenant")
    row = rows.filter(pk=pk).first()
    if row is None:
        raise Http404
    return row


def _roles_of(by: str) -> list[Role]:
    """Those that somebody in this role may give."""
    return [one for one in ALLOWED if may_manage(by, of=one)]
