"""The operators' site: Django's own models in its look."""

from __future__ import annotations

from typing import Any

from allauth.account.admin import EmailAddressAdmin as AllauthEmailAddressAdmin
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from auditlog.admin import LogEntryAdmin
from auditlog.models import LogEntry
from axes.models import AccessAttempt, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

admin.site.index_title = "Cockpit"

# Every ModelAdmin that is not unfold's looks broken in it, so those of others are registered anew.
# Sessions not at all: who knows a session's key is in it.
for model in (User, Group, LogEntry, EmailAddress, Authenticator, UserSession):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """Operators."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """What groups of operators may do."""


@admin.register(LogEntry)
class AuditAdmin(LogEntryAdmin, ModelAdmin):
    """Who changed what: to be read, never written."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only the relay writes here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits the past."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody removes it either."""
        return False


@admin.register(EmailAddress)
class EmailAddressAdmin(AllauthEmailAddressAdmin, ModelAdmin):
    """Whose address is proved."""


class ReadOnlyAdmin(ModelAdmin):
    """What the relay writes by itself."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody makes these up."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nor changes them."""
        return False


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnlyAdmin):
    """Who has which second factor, never its secret. Deleting all of somebody's lets them set up a
    new one (as `manage.py reset_second_factor` does), and shuts the admin to their sessions."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__email", "user__username")
    list_select_related = ("user",)
    fields = list_display


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ReadOnlyAdmin):
    """Failed log-ins of the admin by address. Deleting one lifts its lockout."""

    list_display = ("attempt_time", "ip_address", "username", "failures_since_start", "user_agent")
    search_fields = ("ip_address", "username")
    date_hierarchy = "attempt_time"
    # Not what was sent with them.
    fields = list_display


@admin.register(AccessLog)
class AccessLogAdmin(ReadOnlyAdmin):
    """Who logged in, from where, and when they left."""

    list_display = ("attempt_time", "logout_time", "ip_address", "username", "user_agent")
    search_fields = ("ip_address", "username")
    date_hierarchy = "attempt_time"
    fields = list_display

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody removes it."""
        return False
