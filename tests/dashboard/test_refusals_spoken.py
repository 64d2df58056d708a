"""Refusals as they are heard: a page says them in its reader's language, and the doors of machines
and operators in English, whatever the caller accepts."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import translation

from gateway.account import webhooks
from gateway.dashboard.delivery_words import why_not
from gateway.dashboard.once import new_ticket
from relay_site.language import ENGLISH_PATHS
from tenants import services
from tenants.models import Membership
from tenants.people import services as people
from tenants.people.roles import Role
from tests.dashboard.books import invoice_of
from tests.dashboard.reading import english, read
from tests.dashboard.test_team_pages import note
from tests.dashboard.test_translation import HAN, ROOT
from tests.gateway.api.client import Answer, Api, api_of
from tests.tenants.cast import Cast
from tests.tenants.people import OPERATOR, make_member, make_person, owner_of, signed_in

pytestmark = pytest.mark.django_db
Arguments = Callable[[Cast], dict[str, Any]]
WIRED = {"url": "http://example.com/hook"}


@pytest.fixture(autouse=True)
def _shared(redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url


@pytest.fixture
def owner(cast: Cast) -> Client:
    return signed_in(owner_of(cast.acme).user, headers={"Accept-Language": "zh-hant"})


def _nothing(cast: Cast) -> dict[str, Any]:
    return {}


def _key(cast: Cast) -> dict[str, Any]:
    return {"key_id": services.issue_key(tenant=cast.acme, name="bot").key.pk}


def _trader(cast: Cast) -> dict[str, Any]:
    return {"key_id": services.issue_key(tenant=cast.acme, name="t", scopes=["exchange"]).key.pk}


def _revoked(cast: Cast) -> dict[str, Any]:
    return {"key_id": services.revoke_key(services.issue_key(tenant=cast.acme, name="b").key).pk}


def _paused(cast: Cast) -> dict[str, Any]:
    uid = webhooks.add(cast.acme, url="https://example.com/hook").endpoint.uid
    webhooks.update(cast.acme, uid, is_enabled=False)
    return {"uid": uid}


def _herself(cast: Cast) -> dict[str, Any]:
    return {"pk": Membership.objects.get(tenant=cast.acme).pk}


NEW_KEY = {"name": "bot", "environment": "live", "scopes": ["ws"]}
#: A form of a page, what it is sent with, and what is said.
REFUSED: list[tuple[str, Arguments, dict[str, Any], str]] = [
    ("key_new", _nothing, {"name": ""}, "此為必需欄位"),  # Django's own
    ("key_new", _nothing, NEW_KEY | {"scopes": []}, "金鑰至少需要一個權限範圍"),
    ("key_new", _nothing, NEW_KEY | {"allowed_networks": "here"}, "既不是位址也不是網段"),
    ("key_new", _nothing, NEW_KEY | {"allowed_networks": "10.0.0.1/8"}, "該網段是 10.0.0.0/8"),
    ("key_new", _nothing, NEW_KEY | {"allowed_origins": "desk"}, "不是來源"),
    ("key_new", _nothing, NEW_KEY | {"rate_burst": "5"}, "速率須兩者皆填"),
    (
        "key_new",
        _nothing,
        NEW_KEY | {"daily_quota": "9", "monthly_quota": "1"},
        "每月配額不能低於每日配額",
    ),
    ("key_edit", _key, NEW_KEY | {"opened_as": "0 "}, "自您開啟之後已有變更"),
    ("key_rotate", _revoked, {"overlap": "0"}, "已撤銷：請建立新的金鑰"),
    ("key_rails", _trader, {"signers": "0x12"}, "不是位址：須為 0x 加 40 個"),
    ("key_rails", _trader, {"kinds": "no-word"}, "不是動作種類"),
    ("webhook-add", _nothing, WIRED, "通訊協定須為 https，不能是 http"),
    ("webhook-add", _nothing, {"url": "https://10.0.0.1/"}, "不在我們的傳送範圍：私有位址"),
    ("webhook-ping", _paused, {}, "此端點已停用（由您停用）：請先啟用"),
    ("team", _nothing, {"email": "ada@example.com", "role": "viewer"}, "已經是成員"),
    ("team_member", _herself, {"role": "viewer"}, "需要擁有者：請先讓另一人成為擁有者"),
    ("team_member", _herself, {"role": "nobody"}, "'nobody' 不在擁有者, 管理員"),
    ("team_leave", _nothing, {}, "需要擁有者"),
    ("team_second_factor", _nothing, {"on": "1"}, "請先設定您自己的雙重驗證"),
    ("terms_accept", _nothing, {"version": "0"}, "而非 0：請重新閱讀"),
    ("plan_add_on", _nothing, {"code": "more"}, "沒有加購項目"),
    ("plan_add_on", _nothing, {"end": "7"}, "此帳戶沒有這個加購項目"),
    ("billing_profile", _nothing, {"legal_name": "Acme", "country": "xx"}, "不是國家代碼"),
    ("close", _nothing, {"typed": "Acme"}, "輸入此帳戶的簡稱 acme"),
]


@pytest.mark.parametrize(("name", "arguments", "data", "said"), REFUSED)
def test_a_page_refuses_in_chinese(
    owner: Client, cast: Cast, name: str, arguments: Arguments, data: dict[str, Any], said: str
) -> None:
    if name == "close":
        note(owner, {"method": "password", "reauthenticated": True})
    url = reverse(f"dashboard:{name}", kwargs={"slug": "acme", **arguments(cast)})
    page = owner.post(url, data | {"once": new_ticket()}, follow=True).content.decode()
    assert said in " | ".join(read(page))
    assert not english(page)


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("usage", "?range=custom&start=2026-01-09&end=2026-01-02", "」不得晚於「"),
        ("usage", "?range=custom&start=2020-01-01&end=2026-01-02", "按日一次最多提供 400 天"),
        ("invoices_export", "?what=journal&period=2026", "'journal' 不是匯出項目"),
        ("invoices_export", "?what=invoices&period=now", "'now' 不是期間"),
        ("traces", "?key=123456", "沒有金鑰 123456"),
        ("traces", "?cursor=!", "不屬於此清單"),
        ("estimator", "?channel=trades&coin=no!such", "值超出範圍：{"),
    ],
)
def test_a_page_that_is_asked_for_refuses_in_chinese(
    owner: Client, name: str, query: str, said: str
) -> None:
    url = reverse(f"dashboard:{name}", kwargs={"slug": "acme"})
    page = owner.get(url + query, follow=True).content.decode()
    assert said in " | ".join(read(page))
    assert not english(page)


def test_who_is_not_invited_is_told_so_in_chinese(cast: Cast) -> None:
    """Outside any account."""
    owner_of(cast.acme)
    asked = people.invite(tenant=cast.acme, email="new@example.com", role="viewer", by=OPERATOR)
    made = people.make_token(asked.pk)
    assert made is not None
    link = reverse("invitation_link", args=[made[1]])
    ben = signed_in(make_person("ben"), headers={"Accept-Language": "zh-hant"})
    ben.get(link)
    page = ben.post(reverse("invitation"), follow=True).content.decode()
    assert "此邀請屬於另一個電子郵件地址" in page
    new = signed_in(make_person("new"), headers={"Accept-Language": "zh-hant"})
    new.get(link)
    answer = new.post(reverse("invitation"))
    assert [str(one) for one in get_messages(answer.wsgi_request)] == ["您現在是 Acme 的檢視者。"]


#: The account API's refusals: by the use cases that pages share, by the framework, by the door.
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "keys", {"name": "bot", "allowed_networks": ["here"]}),
    ("POST", "keys", {"name": "bot", "rate_burst": 5}),
    ("POST", "keys", {"name": "bot", "scopes": ["grpc"]}),
    ("POST", "keys", {"name": "", "daily_quota": "x"}),
    ("POST", "keys", {"nome": "bot"}),
    ("POST", "keys/987654321/rotate", {}),
    ("POST", "webhooks", WIRED),
    ("POST", "webhooks", {"url": "https://example.com/", "kinds": ["x"]}),
    ("GET", "keys?cursor=x", None),
    ("GET", "keys?limit=0", None),
    ("GET", "usage?step=week", None),
    ("GET", "invoices/none", None),
    ("GET", "exports/journal?period=2026", None),
    ("GET", "plan/preview?plan=none", None),
    ("PATCH", "spending", {"spend_cap": "1.234"}),
    ("POST", "estimate", {"subscriptions": [{"channel": "trades", "coins": ["!"]}]}),
    ("GET", "nothing", None),
    ("DELETE", "account", None),
]


def _ask(api: Api, method: str, path: str, body: Any, language: str) -> tuple[int, bytes]:
    # Also by the choice that a page's menu leaves.
    cookie = f"{configured.LANGUAGE_COOKIE_NAME}={language}"
    headers = {"Accept-Language": language, "Cookie": cookie}
    path, _mark, query = path.partition("?")
    answer: Answer = api(method, path, body, headers=headers, **_pairs(query))
    return answer.status, answer.body.replace(answer.headers["x-request-id"].encode(), b"")


def _pairs(query: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in query.split("&")) if query else {}


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_the_api_refuses_in_english(
    owner: Client, cast: Cast, method: str, path: str, body: Any
) -> None:
    ada = api_of(cast.acme, "account", "ws", "info")
    status, plain = _ask(ada, method, path, body, "en")
    assert status >= 400
    assert plain.isascii() or "…" in plain.decode()
    owner.get(
        reverse("dashboard:team", kwargs={"slug": "acme"})
    )  # a page before it, in this process
    with translation.override("zh-hant"):  # and whatever was left by somebody else
        assert _ask(ada, method, path, body, "zh-hant") == (status, plain)


def test_the_same_refusal_is_chinese_in_a_page_and_english_in_the_api(
    owner: Client, cast: Cast
) -> None:
    form = WIRED | {"once": new_ticket()}
    page = owner.post(reverse("dashboard:webhook-add", kwargs={"slug": "acme"}), form)
    assert "通訊協定須為 https，不能是 http。" in read(page.content.decode())
    answer = api_of(cast.acme)("POST", "webhooks", WIRED, headers={"Accept-Language": "zh-hant"})
    assert answer.json["error"]["message"] == "the scheme must be https, not http."


def test_what_is_answered_and_written_down_is_english(owner: Client, cast: Cast) -> None:
    """Not only refusals: an estimate's words, the audit log's rows, a file's columns."""
    ada = api_of(cast.acme)
    asked = {"subscriptions": [{"channel": "allMids"}]}
    told = ada("POST", "estimate", asked, headers={"Accept-Language": "zh-hant"})
    assert told.status in (200, 503)
    assert not HAN.search(told.body.decode())
    owner.post(reverse("dashboard:team_second_factor", kwargs={"slug": "acme"}))
    make_member(cast.acme, "ben", Role.VIEWER)
    file = owner.get(reverse("dashboard:usage-csv", kwargs={"slug": "acme"}))
    assert not HAN.search(b"".join(file.streaming_content).decode())  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/", "/webhooks/none/"])
def test_operators_and_providers_read_english(client: Client, path: str) -> None:
    assert path.startswith(ENGLISH_PATHS)
    answer = client.get(path, headers={"Accept-Language": "zh-hant"}, follow=True)
    if path.startswith("/admin/"):
        assert "zh" not in answer.headers.get("Content-Language", "en")
    assert not HAN.search(answer.content.decode())


def test_an_invoice_is_chinese_on_its_page_and_english_as_a_document(
    owner: Client, cast: Cast
) -> None:
    """What is kept is the same for everybody, so it must not depend on who opens it first."""
    made = {"slug": "acme", "number": invoice_of(cast.acme).number}
    page = owner.get(reverse("dashboard:invoice", kwargs=made)).content.decode()
    assert {"發票抬頭", "應付金額", "小計"} <= set(read(page))
    assert not english(page)
    url = reverse("dashboard:invoice_file", kwargs={**made, "format": "html"})
    document = b"".join(owner.get(url).streaming_content).decode()  # type: ignore[attr-defined]
    assert "Amount due" in document
    assert not HAN.search(document)


def test_why_a_webhook_was_not_delivered_has_words() -> None:
    """As it is written down where it was tried."""
    with translation.override("zh-hant"):
        assert why_not("answered 500") == "回應 500"
        said = "no delivery succeeded for 5 days; last: not sent: the host name has no address"
        told = "連續 5 天沒有成功的投遞；最後一次：未送出：該主機名稱沒有位址"
        assert why_not(said) == told
        assert why_not("something else") == "something else"
    for error in _errors_of("tenants/wire/outbound.py"):
        with translation.override("en"):
            assert why_not(error) == error
        with translation.override("zh-hant"):
            assert HAN.search(why_not(error)), error


def _errors_of(module: str) -> list[str]:
    """What a function that explains an error returns, as texts."""
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    why = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_why")
    found = [one.value for one in ast.walk(why) if isinstance(one, ast.Return)]
    texts = [one.value for one in found if isinstance(one, ast.Constant)]
    assert len(texts) > 4
    return [str(text) for text in texts]
