"""A connection or request that is over is freed by its reference counts, however it ended: nothing
of it waits for the collector, which looks at what grew old once in 15 minutes (R12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from streaming.ws.close_codes import CloseCode
from tests.gateway.endings import EVERY_DIALECT, ONCE, Street, asked, rpc
from tests.gateway.test_http_edge import Upstream
from tests.support.collector import Observer
from tests.support.edge import Edge
from tests.support.environment import VAR
from tests.support.raw_customer import RawCustomer

TIMES = 3
KEYS = """
import sys
from tenants.models import Tenant
from tenants.services import issue_key, revoke_key
tenant = Tenant.objects.get(slug="demo")
gone = issue_key(tenant=tenant, name="gone", scopes=["ws", "evm"])
poor = issue_key(
    tenant=tenant, name="poor", scopes=["ws", "info", "evm"], rate_per_minute=1, rate_burst=1
)
print(gone.raw, poor.raw, flush=True)
sys.stdin.readline()
revoke_key(gone.key)
"""


@pytest.fixture(scope="module")
def street(redis_url: str) -> Iterator[Street]:
    observer, upstream = Observer(VAR / "freed"), Upstream()
    url = f"http://127.0.0.1:{upstream.port}"
    edge = Edge(
        VAR / "freed-edge",
        redis_url=redis_url.removesuffix("/0") + "/6",
        upstreams=f"node:///nowhere?info={url}&evm={url}&exchange={url}",
        variables=observer.variables,
    )
    with edge.open_shell(KEYS) as shell:
        edge.start()
        observer.begin(edge.process, log=edge.log)
        yield Street(edge, observer, shell)
    edge.stop()
    upstream.stop()


@pytest.mark.parametrize("path", ["ws", "ws?relay=1"])
@pytest.mark.parametrize("case", EVERY_DIALECT, ids=lambda case: case.__name__)
def test_a_socket_that_ended_is_freed(
    street: Street, case: Callable[[Street, str], None], path: str
) -> None:
    for _ in range(TIMES):
        case(street, path)
    assert_freed(street)


@pytest.mark.parametrize("name", ONCE)
def test_what_was_asked_is_freed(street: Street, name: str) -> None:
    for _ in range(TIMES):
        ONCE[name](street)
    assert_freed(street)


def test_who_is_let_go_with_their_key_is_freed(street: Street) -> None:
    customers = [street.customer(path, key=street.keys[0]) for path in ("ws", "ws?relay=1", "evm")]
    for customer in customers[:2]:
        customer.say(asked("subscribe", "GONE"))
        customer.hear()
    customers[2].say(rpc("eth_subscribe", "newHeads"))
    assert street.shell.stdin is not None
    street.shell.stdin.close()
    assert {customer.hear_end() for customer in customers} == {CloseCode.POLICY}
    assert_freed(street)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/app/", "/nonesuch"])
def test_a_page_leaves_what_is_of_django_alone(street: Street, path: str) -> None:
    """That is 30 to 200 objects: its request and whatever middlewares hang on it refer to each
    other."""
    for _ in range(TIMES):
        street.edge.get(path)
    assert_freed(street)


def test_a_request_that_nobody_serves_is_freed(street: Street) -> None:
    """The last: the upstream is left alone for a while after it says that it is asked too much."""
    customer = RawCustomer(street.edge.port)
    where = f"/{street.edge.api_key}/info"
    for status in (429, 503, 503):
        assert customer.ask(where, method="POST", body=b'{"type":"portfolio"}') == status
    customer.close()
    assert_freed(street)


def assert_freed(street: Street) -> None:
    left = street.observer.left()
    assert not left, "\n".join(map(str, left))
