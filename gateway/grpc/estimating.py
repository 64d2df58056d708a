"""`EstimateCost`: the estimate of the account API, for programs that are here already."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import grpc
from asgiref.sync import sync_to_async
from django.db import connection

from gateway.account.errors import AccountError
from gateway.account.estimate import Asked, Cost, Estimate, Line, estimate
from gateway.grpc.door import Door
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.reads import Reads
from gateway.grpc.requests import read, subscription_of
from gateway.grpc.statuses import CallEnds, bad_argument
from tenants.admission.errors import ScopeMissing
from tenants.admission.principal import Principal, Scope
from tenants.models import Tenant

#: Of a key's rate: it reads the counts of a day.
WEIGHT = 20
MAX_UINT64 = 2**64 - 1


class Estimating:
    """The method, on bytes."""

    def __init__(self, door: Door, reads: Reads) -> None:
        self._admission = door.runtime.admission
        self._reads = reads

    async def estimate_cost(self, data: bytes, context: Any) -> bytes:
        """`EstimateCost`."""
        return await self._reads.answer(self._answer, data, context, "EstimateCost", weight=WEIGHT)

    async def _answer(self, principal: Principal, data: bytes) -> bytes:
        self._check_scope(principal)
        request = read(pb.EstimateCostRequest, data)
        asked = [_asked(n, one) for n, one in enumerate(request.subscriptions)]
        in_thread = sync_to_async(_estimate, thread_sensitive=False)
        try:
            found = await in_thread(principal.tenant_id, asked)
        except AccountError as error:
            is_ours = error.http_status >= 500
            status = grpc.StatusCode.UNAVAILABLE if is_ours else grpc.StatusCode.INVALID_ARGUMENT
            raise CallEnds(status, str(error), code=error.code) from None
        return _told(found).SerializeToString()

    def _check_scope(self, principal: Principal) -> None:
        try:
            self._admission.check_door(principal, Scope.ACCOUNT)
        except ScopeMissing as missing:
            if Scope.ACCOUNT_READ not in principal.scopes:
                raise missing from None
            self._admission.check_door(principal, Scope.ACCOUNT_READ)


def _asked(number: int, one: pb.EstimatedSubscription) -> Asked:
    if not math.isfinite(one.hours_per_day):
        raise bad_argument(f"subscriptions[{number}].hours_per_day", "not a number")
    return Asked(
        subscription=subscription_of(one.subscription),
        hours_per_day=Decimal(str(one.hours_per_day)) if one.hours_per_day else Decimal(24),
        connections=one.connections or 1,
    )


def _estimate(tenant_id: int, asked: list[Asked]) -> Estimate:
    try:
        return estimate(Tenant.objects.get(pk=tenant_id), asked)
    finally:
        connection.close()


def _told(found: Estimate) -> pb.EstimateCostResponse:
    return pb.EstimateCostResponse(
        lines=_lines(found.lines),
        messages_per_s=found.messages_per_s,
        messages_per_month=min(found.messages_per_month, MAX_UINT64),
        bytes_per_month=min(found.bytes_per_month, MAX_UINT64),
        coin_minutes_per_month=min(found.coin_minutes_per_month, MAX_UINT64),
        measured_hours=found.measured_hours,
        is_whole_day=found.is_whole_day,
        plan=None if found.plan is None else _cost(found.plan),
        offers=[_cost(cost) for cost in found.offers],
        cheapest=found.cheapest or "",
        assumptions=found.assumptions,
    )


def _lines(lines: Iterable[Line]) -> list[pb.EstimatedLine]:
    return [
        pb.EstimatedLine(
            channel=line.channel,
            topics=line.topics,
            messages_per_s=line.messages_per_s,
            messages_per_month=min(line.messages_per_month, MAX_UINT64),
            bytes_per_month=min(line.bytes_per_month, MAX_UINT64),
            basis=line.basis,
            measured_hours=line.measured_hours,
        )
        for line in lines
    ]


def _cost(cost: Cost) -> pb.EstimatedCost:
    return pb.EstimatedCost(
        plan=cost.code,
        name=cost.name,
        per_month=f"{cost.per_month:.2f}",
        fee=f"{cost.fee:.2f}",
        serves_all=cost.serves_all,
        refused=cost.refused,
        missing=cost.missing,
        too_small=cost.too_small,
    )
