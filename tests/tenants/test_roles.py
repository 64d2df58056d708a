"""Which role may do what, said a second time; and a tenant is never without an owner."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, close_old_connections, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.models import Membership
from tenants.people import services
from tenants.people.roles import ALLOWED, May, Role, may, may_manage
from tests.tenants.cast import Cast
from tests.tenants.people import OPERATOR, make_member, make_person, owner_of

roles = st.sampled_from(list(Role))


def test_the_table() -> None:
    """What a customer would be told of each role."""
    who = {act: {role.value for role in Role if may(role, act)} for act in May}
    everybody = {role.value for role in Role}
    assert who[May.SEE_USAGE] == who[May.SEE_PEOPLE] == everybody
    assert who[May.MANAGE_KEYS] == {"owner", "admin", "developer"}
    assert who[May.SEE_INVOICES] == {"owner", "admin", "finance"}
    assert who[May.EDIT_BILLING_PROFILE] == {"owner", "admin", "finance"}
    assert who[May.CHANGE_PLAN] == who[May.MANAGE_PEOPLE] == {"owner", "admin"}
    assert who[May.DELETE_TENANT] == who[May.MANAGE_OWNERS] == {"owner"}
    assert set(ALLOWED) == set(Role)


@given(st.text(max_size=12), st.sampled_from(list(May)))
def test_an_unknown_role_may_nothing(role: str, act: May) -> None:
    assert may(role, act) is (role in list(Role) and act in ALLOWED[Role(role)])


@given(actor=roles, of=roles, then=roles)
def test_nobody_rises_above_themselves(actor: Role, of: Role, then: Role) -> None:
    """Who may give a role may do all that it may."""
    if may_manage(actor, of=then):
        assert ALLOWED[then] <= ALLOWED[actor]
    if of is Role.OWNER:
        assert may_manage(actor, of=of) is (actor is Role.OWNER)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["change", "remove", "transfer"]),
        st.integers(0, 3),  # whom
        st.integers(-1, 3),  # by whom; -1: the operator
        roles,
    ),
    max_size=15,
)


@pytest.mark.django_db
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begin=st.lists(roles, min_size=1, max_size=3), steps=STEPS)
def test_never_without_an_owner(cast: Cast, begin: list[Role], steps: list[Any]) -> None:
    """Whatever is tried, by whomever, in whatever order; and who may not, changes nothing."""
    with transaction.atomic():
        people = [owner_of(cast.acme)]
        people += [make_member(cast.acme, f"p{n}", role) for n, role in enumerate(begin)]
        for act, whom, by, role in steps:
            one = people[whom % len(people)]
            actor = OPERATOR if by < 0 else people[by % len(people)]
            before = _roles(cast)
            try:
                if act == "change":
                    services.change_role(one, role=role, by=actor)
                elif act == "remove":
                    services.remove_member(one, by=actor)
                else:
                    services.transfer_ownership(people[by % len(people)], to=one, by=actor)
            except (PermissionDenied, ValidationError):
                assert _roles(cast) == before
            after = _roles(cast)
            assert Role.OWNER in after.values()
            if by >= 0 and before.get(actor.pk) != Role.OWNER:  # type: ignore[union-attr]
                assert _owners(after) == _owners(before)
        transaction.set_rollback(True)


def _roles(cast: Cast) -> dict[int, str]:
    return dict(Membership.objects.for_tenant(cast.acme).values_list("pk", "role"))


def _owners(found: dict[int, str]) -> set[int]:
    return {pk for pk, role in found.items() if role == Role.OWNER}


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one(committed_cast: Cast) -> None:
    acme = committed_cast.acme
    both = [owner_of(acme), make_member(acme, "ben", Role.OWNER)]
    start, refused = threading.Barrier(2), []

    def remove(me: Membership, other: Membership) -> None:
        try:
            start.wait(10)
            services.remove_member(other, by=me)
        except (ValidationError, PermissionDenied) as error:
            refused.append(error)
        finally:
            connection.close()
            close_old_connections()

    threads = [threading.Thread(target=remove, args=pair) for pair in (both, both[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Membership.objects.for_tenant(acme).filter(role=Role.OWNER).count() == 1
    assert len(refused) == 1


@pytest.mark.django_db
def test_the_database_knows_roles_and_one_membership_each(cast: Cast) -> None:
    ada, dan = owner_of(cast.acme), make_person("dan")
    for wrong in ({"role": "king"}, {"role": "viewer", "user": ada.user}):
        values = {"tenant": cast.acme, "user": dan, **wrong}
        with pytest.raises(IntegrityError), transaction.atomic():
            Membership.objects.create(**values)


@pytest.mark.django_db
def test_a_user_who_belongs_somewhere_is_not_deleted(cast: Cast) -> None:
    """Or deleting a user could take a tenant's last owner."""
    ada = owner_of(cast.acme)
    with pytest.raises(Exception, match="protected"):
        ada.user.delete()


@pytest.mark.django_db
def test_ownership_is_handed_on_in_one_step(cast: Cast) -> None:
    ada, ben = owner_of(cast.acme), make_member(cast.acme, "ben", Role.VIEWER)
    cleo = owner_of(cast.other, "cleo")
    for owner, to, by in ((ada, cleo, ada), (ada, ben, ben), (ada, ben, cleo), (ben, ada, ben)):
        with pytest.raises((PermissionDenied, ValidationError)):
            services.transfer_ownership(owner, to=to, by=by)
    services.transfer_ownership(ada, to=ben, by=ada)
    assert _roles(cast) == {ada.pk: "admin", ben.pk: "owner"}
    with pytest.raises(PermissionDenied):  # an admin does not take it back
        services.change_role(ada, role=Role.OWNER, by=ada)
