"""A post over the socket opens no door that its key and plan do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import orjson

from gateway.exchange.service import Exchange
from gateway.http.errors import HttpError
from gateway.http.info import Info
from gateway.http.origins import Got
from gateway.http.router import Router
from gateway.http.routes import Route, Source
from gateway.posts import CustomerPosts
from gateway.requests.entry import Entry
from gateway.upstreams.posts import Answer
from streaming.core.dialects import official
from streaming.ws import posts
from tenants.admission.control import AdmissionControl
from tenants.admission.directory import Directory
from tenants.admission.principal import Limits, Principal
from tenants.admission.quotas import Occupancy
from tests.tenants.test_directory import principal


class _Origin:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def ask(self, _: bytes, __: Route, **___: Any) -> Got:
        if self._error is not None:
            raise self._error
        return Got(Answer(200, b"application/json", b'{"universe":[]}'), Source.NODE, 7, 0.0)


async def posted(key: Principal, error: Exception | None = None) -> tuple[Any, int, list[Entry]]:
    """The response in the answer frame, how many requests were counted, and what was recorded."""
    counted: list[int] = []
    control = AdmissionControl(Directory(load=lambda _: {}), Occupancy())
    meter = SimpleNamespace(
        slot=lambda *_, **__: 0,
        add_requests=lambda _, number: counted.append(number),
        add=lambda *_: None,
    )
    runtime: Any = SimpleNamespace(admission=control, meter=meter, workers={})
    post = official.Post(1, "info", {"type": "meta"})
    noted: list[Entry] = []
    info, exchange = Info(runtime, Router(runtime, _Origin(error))), cast(Exchange, None)
    customer_posts = CustomerPosts(control, info, exchange, note=noted.append)
    frame = await posts.answer(post, customer_posts, key)
    await control.aclose()
    return orjson.loads(frame)["data"]["response"], sum(counted), noted


async def test_a_post_needs_the_scope_and_the_product_of_info() -> None:
    both = frozenset({"ws", "info"})
    response, counted, noted = await posted(
        principal(scopes=both, limits=Limits(1, 1, products=both))
    )
    assert (response["type"], counted, noted) == ("info", 1, [])
    response, counted, noted = await posted(principal(scopes=frozenset({"ws"})))
    assert (response["type"], counted) == ("error", 0)
    (record,) = noted
    assert (record.door, record.method, record.status) == ("info", "WS", 403)
    assert record.tenant_id == principal().tenant_id
    assert "info" in response["payload"]
    sockets = Limits(1, 1, products=frozenset({"ws"}))
    response, counted, noted = await posted(principal(scopes=both, limits=sockets))
    assert (response["type"], counted) == ("error", 0)
    assert "info" in response["payload"]


async def test_what_fails_leaves_a_record_whatever_it_is() -> None:
    both = frozenset({"ws", "info"})
    late = HttpError(502, "upstream_unavailable", "No upstream answered within 5 s. Try again.")
    late.upstream_s = 5.0
    response, counted, noted = await posted(principal(scopes=both), late)
    (record,) = noted
    assert (record.status, record.code, record.kind) == (502, "upstream_unavailable", "meta")
    assert (record.upstream_ms, response["type"], counted) == (5_000.0, "error", 0)
    response, counted, noted = await posted(principal(scopes=both), RuntimeError("ours"))
    (record,) = noted
    assert (record.status, record.code, record.kind) == (500, "internal", "meta")
    assert record.request_id in response["payload"]
    assert "ours" not in response["payload"]
