"""The operators' pages for people. Writes go through services, in the name of an operator."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.decorators import display

from tenants.models import BillingProfile, Invitation, Membership, Tenant, TermsAcceptance
from tenants.people import services
from tenants.people.actors import Operator
from tenants.people.services import CUSTOMER_FIELDS, TAX_FIELDS

STATE_LABELS = {
    "sent": "info",
    "waiting": "warning",
    "accepted": "success",
    "withdrawn": "danger",
    "expired": "danger",
}


def operator(request: HttpRequest) -> Operator:
    """Who acts here."""
    return Operator(user=request.user)  # type: ignore[arg-type]  # the admin lets nobody else in


class NeverAdded:
    """Made elsewhere."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NeverDeleted:
    """Kept."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MembershipInline(NeverAdded, NeverDeleted, TabularInline):
    """The tenant's people, to look at; each has a page to change it or to end it."""

    model = Membership
    tab = True
    extra = 0
    fields = readonly_fields = ("user", "role", "created_at")
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "tenant")


class InvitationForm(forms.ModelForm):
    """Whom to ask in, as what."""

    class Meta:
        model = Invitation
        fields = ("email", "role")

    def clean(self) -> dict[str, Any]:
        """What the service would refuse, said beside the form."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        tenant = cleaned.get("tenant") or (
            self.instance.tenant if self.instance.tenant_id else None
        )
        if tenant is not None and not self.errors and "email" in cleaned:
            services.check_invitable(tenant, email=cleaned["email"], role=cleaned["role"])
        return cleaned

    def full_clean(self) -> None:
        # The service sets it; without it the model's own checks could not run.
        if self.instance.expires_at is None:
            self.instance.expires_at = self.instance.created_at + services.INVITATION_LIFE
        super().full_clean()


class InvitationInline(NeverDeleted, TabularInline):
    """Who is asked in; more can be."""

    model = Invitation
    form = InvitationForm
    tab = True
    extra = 0
    fields = ("email", "role", "state", "expires_at")
    readonly_fields = ("state", "expires_at")
    show_change_link = True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        return super().get_queryset(request).select_related("tenant")

    @display(description="state", label=STATE_LABELS)
    def state(self, invitation: Invitation) -> str:
        return invitation.state(timezone.now()) if invitation.pk else ""


class BillingProfileInline(NeverDeleted, StackedInline):
    """Whom its invoices name; without it they name the tenant."""

    model = BillingProfile
    tab = True
    extra = 0
    max_num = 1
    fields = (
        "legal_name",
        ("address_line1", "address_line2"),
        ("postal_code", "city", "region", "country"),
        ("tax_id", "invoice_email"),
        ("tax_name", "tax_percent"),
        "reverse_charge_text",
    )


class TermsInline(NeverAdded, NeverDeleted, TabularInline):
    """What was accepted, by whom, when and from where."""

    model = TermsAcceptance
    tab = True
    extra = 0
    fields = readonly_fields = ("version", "user", "accepted_at", "from_address")


#: On the tenant's page.
INLINES = (MembershipInline, InvitationInline, BillingProfileInline, TermsInline)


def save_formset(
    request: HttpRequest, formset: BaseInlineFormSet[Model, Tenant, forms.ModelForm]
) -> bool:
    """Write what an inline of this room was given; whether it was one of this room."""
    if formset.model not in (Invitation, BillingProfile, Membership, TermsAcceptance):
        return False
    # The admin goes on with these lists, for its log; the audit has the entries.
    formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
    save = _invite if formset.model is Invitation else _save_billing_profile
    for form in formset.forms:
        if form.has_changed():  # the others are to be read only
            # The form was checked; only somebody who was quicker can make the service refuse it.
            _say(request, partial(save, request, formset.instance, form))
    return True


def _invite(request: HttpRequest, tenant: Tenant, form: forms.ModelForm) -> None:
    services.invite(
        tenant=tenant,
        email=form.cleaned_data["email"],
        role=form.cleaned_data["role"],
        by=operator(request),
    )
    messages.success(request, f"An invitation is on its way to {form.cleaned_data['email']}.")


def _save_billing_profile(request: HttpRequest, tenant: Tenant, form: forms.ModelForm) -> None:
    known = (*CUSTOMER_FIELDS, *TAX_FIELDS)
    values = {name: form.cleaned_data[name] for name in known if name in form.cleaned_data}
    services.save_billing_profile(tenant=tenant, by=operator(request), **values)


@admin.register(Membership)
class MembershipAdmin(NeverAdded, ModelAdmin):
    """Who belongs where, as what. People come in by invitation."""

    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "user__username", "tenant__name", "tenant__slug")
    fields = ("tenant", "user", "role", "created_at")
    readonly_fields = ("tenant", "user", "created_at")
    actions = ("make_owner",)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """With the service's refusals beside the field."""
        base = super().get_form(request, obj, **kwargs)

        class RoleForm(base):  # type: ignore[misc, valid-type]
            def clean_role(self) -> str:
                role = str(self.cleaned_data["role"])
                services.check_role_change(self.instance, role=role)
                return role

        return RoleForm

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        _say(request, partial(services.change_role, obj, role=obj.role, by=operator(request)))

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        _say(request, partial(services.remove_member, obj, by=operator(request)))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A last owner is shown as what cannot be deleted, with the reason."""
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        for membership in objs:
            try:
                services.check_removal(membership)
            except ValidationError as error:
                protected += error.messages
        return deleted, counts, perms_needed, protected

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            self.delete_model(request, membership)

    @admin.action(description="Make owner", permissions=["change"])
    def make_owner(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            services.change_role(membership, role="owner", by=operator(request))
        self.message_user(request, f"{len(queryset)} made owners.")


@admin.register(Invitation)
class InvitationAdmin(NeverAdded, NeverDeleted, ModelAdmin):
    """Who was asked in. The link is in the mail alone; another mail has another one."""

    list_display = ("email", "tenant", "role", "state", "invited_by", "sent_at", "expires_at")
    list_filter = ("role", ("is_open", admin.EmptyFieldListFilter))
    list_select_related = ("tenant", "invited_by")
    search_fields = ("email", "tenant__name", "tenant__slug")
    fields = readonly_fields = (
        "tenant",
        "email",
        "role",
        "state",
        "invited_by",
        "created_at",
        "sent_at",
        "expires_at",
        "accepted_at",
        "accepted_by",
        "withdrawn_at",
    )
    actions = ("resend", "withdraw")

    @display(description="state", label=STATE_LABELS)
    def state(self, invitation: Invitation) -> str:
        return invitation.state(timezone.now())

    @admin.action(description="Resend: a new mail, the old link ends", permissions=["change"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        for invitation in queryset:
            if _say(request, partial(services.resend_invitation, invitation, by=operator(request))):
                self.message_user(request, f"Another mail is on its way to {invitation.email}.")

    @admin.action(description="Withdraw: nobody can accept it", permissions=["change"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        for invitation in queryset:
            if _say(
                request, partial(services.withdraw_invitation, invitation, by=operator(request))
            ):
                self.message_user(request, f"The invitation of {invitation.email} is withdrawn.")


def _say(request: HttpRequest, act: Any) -> bool:
    """Do it, or say why it is refused."""
    try:
        act()
    except (ValidationError, PermissionDenied) as error:
        for line in getattr(error, "messages", [str(error)]):
            messages.error(request, line)
        return False
    return True
