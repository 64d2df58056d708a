"""`/v1/keys`: list, make, change, rotate and revoke API keys, and their guard rails."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from gateway.account import keys
from gateway.api.describing import IDEMPOTENT
from gateway.api.endpoint import Endpoint, Money, PageQuery, Strict, page_of, paged
from gateway.api.once import once
from tenants.admission.principal import Scope
from tenants.models import APIKey
from tenants.models.admission import MAX_LISTED, MAX_PER_MINUTE
from tenants.models.rails import MAX_NAMES
from tenants.services import MAX_OVERLAP

MAX_QUOTA = 2**63 - 1
MAX_USD = 10**12 - 1


class Rails(serializers.Serializer[Any]):
    """What a key may not do on the exchange; all off: anything."""

    is_killed = serializers.BooleanField()
    is_cancel_only = serializers.BooleanField()
    signers = serializers.ListField(child=serializers.CharField())
    kinds = serializers.ListField(child=serializers.CharField())
    coins = serializers.ListField(child=serializers.CharField())
    max_order_usd = Money(allow_null=True)
    max_minute_usd = Money(allow_null=True)


class RailsForm(Strict):
    """What to change of it."""

    is_killed = serializers.BooleanField(required=False)
    is_cancel_only = serializers.BooleanField(required=False)
    signers = serializers.ListField(
        child=serializers.RegexField(r"^0[xX][0-9a-fA-F]{40}$"),
        required=False,
        max_length=MAX_NAMES,
    )
    kinds = serializers.ListField(
        child=serializers.RegexField(r"^[A-Za-z][A-Za-z0-9]{0,39}$"),
        required=False,
        max_length=MAX_NAMES,
    )
    coins = serializers.ListField(
        child=serializers.RegexField(r"^[!-~]{1,40}$"), required=False, max_length=MAX_NAMES
    )
    max_order_usd = Money(
        required=False, allow_null=True, min_value=0, max_value=MAX_USD, max_digits=14
    )
    max_minute_usd = Money(
        required=False, allow_null=True, min_value=0, max_value=MAX_USD, max_digits=14
    )


class KeyRow(serializers.Serializer[Any]):
    """A key, without the key."""

    id = serializers.IntegerField(source="key.pk")
    prefix = serializers.CharField(source="key.prefix")
    name = serializers.CharField(source="key.name")
    environment = serializers.ChoiceField(
        source="key.environment", choices=APIKey.Environment.choices
    )
    state = serializers.ChoiceField(choices=["active", "rotated", "expired", "revoked"])
    scopes = serializers.ListField(source="key.scopes", child=serializers.CharField())
    allowed_networks = serializers.ListField(
        source="key.allowed_networks", child=serializers.CharField()
    )
    allowed_origins = serializers.ListField(
        source="key.allowed_origins", child=serializers.CharField()
    )
    rate_per_minute = serializers.IntegerField(source="key.rate_per_minute", allow_null=True)
    rate_burst = serializers.IntegerField(source="key.rate_burst", allow_null=True)
    daily_quota = serializers.IntegerField(source="key.daily_quota", allow_null=True)
    monthly_quota = serializers.IntegerField(source="key.monthly_quota", allow_null=True)
    owner = serializers.CharField(source="key.owner")
    note = serializers.CharField(source="key.note")
    created_at = serializers.DateTimeField(source="key.created_at")
    expires_at = serializers.DateTimeField(source="key.expires_at", allow_null=True)
    rotated_at = serializers.DateTimeField(source="key.rotated_at", allow_null=True)
    revoked_at = serializers.DateTimeField(source="key.revoked_at", allow_null=True)
    last_used_at = serializers.DateTimeField(source="key.last_used_at", allow_null=True)
    family_id = serializers.IntegerField(
        source="key.family_id", help_text="The id of the first key of its rotations."
    )
    rails = Rails()


class IssuedKey(serializers.Serializer[Any]):
    """A new key and, this once, the key itself."""

    key = serializers.CharField(
        allow_null=True, help_text="Shown once; null when the same request is sent again."
    )
    about = KeyRow()


class KeyForm(Strict):
    """What a key may be. What is left out stays, or is the default."""

    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=[str(scope) for scope in Scope]),
        required=False,
        min_length=1,
        max_length=len(Scope),
    )
    allowed_networks = serializers.ListField(
        child=serializers.CharField(max_length=64),
        required=False,
        max_length=MAX_LISTED,
        help_text="Addresses and networks it may be used from; none: everywhere.",
    )
    allowed_origins = serializers.ListField(
        child=serializers.CharField(max_length=200), required=False, max_length=MAX_LISTED
    )
    rate_per_minute = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_PER_MINUTE
    )
    rate_burst = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_PER_MINUTE
    )
    daily_quota = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_QUOTA
    )
    monthly_quota = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_QUOTA
    )
    owner = serializers.CharField(required=False, allow_blank=True, max_length=120)
    note = serializers.CharField(required=False, allow_blank=True, max_length=500)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class NewKeyForm(KeyForm):
    """A new key."""

    environment = serializers.ChoiceField(
        choices=APIKey.Environment.choices, required=False, default="live"
    )


class RotateForm(Strict):
    """How long the old key works on."""

    overlap_s = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=int(MAX_OVERLAP.total_seconds()),
        default=int(keys.DEFAULT_OVERLAP.total_seconds()),
    )


class KeyQuery(PageQuery):
    """Which keys."""

    active = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="Those that open something."
    )


class Keys(Endpoint):
    """All keys."""

    queries = {"GET": KeyQuery}

    @extend_schema(operation_id="list_keys", responses=page_of(KeyRow))
    def get(self, request: Any) -> Response:
        """API keys, the newest first."""
        active = self.asked.pop("active")
        return paged(keys.key_page(self.tenant, is_active=active, **self.asked), KeyRow)

    @extend_schema(
        operation_id="create_key",
        request=NewKeyForm,
        responses={201: IssuedKey},
        parameters=[IDEMPOTENT],
    )
    @once(shown_once="key")
    def post(self, request: Any) -> Response:
        """Make a key, with no scope that the asking key has not. It is shown this once."""
        by = keys.holder_of(self.principal)
        issued = keys.issue(self.tenant, by=by, **self.body(NewKeyForm))
        return _issued(self, issued)


class Key(Endpoint):
    """One key."""

    @extend_schema(operation_id="get_key", responses=KeyRow)
    def get(self, request: Any, key_id: int) -> Response:
        """One key."""
        return Response(KeyRow(keys.key(self.tenant, key_id)).data)

    @extend_schema(operation_id="update_key", request=KeyForm, responses=KeyRow)
    def patch(self, request: Any, key_id: int) -> Response:
        """Change what a key may; in force within 5 s, also for what is open. No key changes
        itself, or gives a scope that it has not."""
        by = keys.holder_of(self.principal)
        rights = self.body(KeyForm, is_partial=True)
        return Response(KeyRow(keys.update(self.tenant, key_id, by=by, **rights)).data)

    @extend_schema(operation_id="revoke_key", responses={204: None})
    def delete(self, request: Any, key_id: int) -> Response:
        """Revoke a key for good; what it holds open is closed within 5 s."""
        keys.revoke(self.tenant, key_id)
        return Response(status=204)


class Rotate(Endpoint):
    """A key's successor."""

    @extend_schema(
        operation_id="rotate_key",
        request=RotateForm,
        responses={201: IssuedKey},
        parameters=[IDEMPOTENT],
    )
    @once(shown_once="key")
    def post(self, request: Any, key_id: int) -> Response:
        """A new key with the same rights; the old one works on for `overlap_s`. It is shown this
        once."""
        overlap = timedelta(seconds=self.body(RotateForm)["overlap_s"])
        by = keys.holder_of(self.principal)
        return _issued(self, keys.rotate(self.tenant, key_id, by=by, overlap=overlap))


class KeyRails(Endpoint):
    """A key's guard rails."""

    @extend_schema(operation_id="get_rails", responses=Rails)
    def get(self, request: Any, key_id: int) -> Response:
        """What a key and its rotations may not do on the exchange."""
        return Response(Rails(keys.rails(self.tenant, key_id)).data)

    @extend_schema(operation_id="set_rails", request=RailsForm, responses=Rails)
    def patch(self, request: Any, key_id: int) -> Response:
        """Change guard rails; in force within a second. A key may stop itself, and not loosen its
        own."""
        by = keys.holder_of(self.principal)
        values = self.body(RailsForm, is_partial=True)
        return Response(Rails(keys.set_rails(self.tenant, key_id, by=by, **values)).data)


class Kill(Endpoint):
    """The kill switch."""

    is_killing = True

    @extend_schema(operation_id="kill_key", request=None, responses=Rails)
    def post(self, request: Any, key_id: int) -> Response:
        """Send nothing more to the exchange for this key and its rotations, within a second."""
        by = keys.holder_of(self.principal)
        rails = keys.set_rails(self.tenant, key_id, by=by, is_killed=self.is_killing)
        return Response(Rails(rails).data)


class Revive(Kill):
    """The kill switch, off."""

    is_killing = False

    @extend_schema(operation_id="revive_key", request=None, responses=Rails)
    def post(self, request: Any, key_id: int) -> Response:
        """Send again what the other rails let pass."""
        return super().post(request, key_id)


class Switched(serializers.Serializer[Any]):
    """How many chains of rotations were switched."""

    families = serializers.IntegerField()


class KillAll(Endpoint):
    """The kill switch of a tenant."""

    @extend_schema(operation_id="kill_all_keys", request=None, responses=Switched)
    def post(self, request: Any) -> Response:
        """Send nothing more to the exchange for any of your keys, within a second."""
        return Response({"families": keys.kill_all(self.tenant)})


class ReviveAll(Endpoint):
    """The same, off."""

    @extend_schema(operation_id="revive_all_keys", request=None, responses=Switched)
    def post(self, request: Any) -> Response:
        """Send again for all of them what their other rails let pass. A key that is stopped itself
        cannot."""
        by = keys.holder_of(self.principal)
        return Response({"families": keys.revive_all(self.tenant, by=by)})


def _issued(view: Endpoint, issued: Any) -> Response:
    about = KeyRow(keys.key(view.tenant, issued.key.pk)).data
    response = Response({"key": issued.raw, "about": about}, status=201)
    response["Cache-Control"] = "no-store"
    return response
