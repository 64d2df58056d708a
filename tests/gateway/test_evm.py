"""JSON-RPC at the EVM door: batches, permissions, memory, failover, and what is sent once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.evm import jsonrpc
from gateway.evm.blocks import MAX_LOG_BLOCKS, LogFilter
from gateway.evm.heads import Follower, Heads
from gateway.evm.jsonrpc import MAX_BATCH, RpcError
from gateway.evm.methods import METHODS, Permission, method_of
from gateway.evm.nodes import DEADLINE_S
from gateway.http.edge import over_socket
from tenants.admission.errors import RateLimited
from tests.gateway.evm_chain import FIRST, EvmNode, customer, cut, failing, hang, rig

ADDRESS = "0x" + "ab" * 20


# --- bodies ---


@pytest.mark.parametrize(
    ("body", "code", "call_id"),
    [
        (b"{", -32700, None),
        (b"5", -32600, None),
        (b'"x"', -32600, None),
        (b"[]", -32600, None),
        (b"[" * 10_000, -32700, None),
        (b'{"jsonrpc":"2.0","method":"eth_chainId","params":[]}', -32600, None),
        (b'{"id":null,"jsonrpc":"2.0","method":"eth_chainId"}', -32600, None),
        (b'{"id":1.5,"jsonrpc":"2.0","method":"eth_chainId"}', -32600, 1.5),
        (b'{"id":1e400,"jsonrpc":"2.0","method":"eth_chainId"}', -32600, ...),
        (b'{"id":123456789012345678901,"method":"eth_chainId"}', -32600, ...),
        (b'{"id":[1],"jsonrpc":"2.0","method":"eth_chainId"}', -32600, [1]),
        (b'{"id":"a","jsonrpc":"1.0","method":"eth_chainId"}', -32600, "a"),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_\\u0000x"}', -32600, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":5}', -32600, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_chainId","params":{}}', -32602, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_nonesuch"}', -32601, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"debug_traceCall"}', -32601, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_sendTransaction"}', -32601, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_subscribe","params":["newHeads"]}', -32601, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_getBalance"}', -32602, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_getBlockByNumber","params":["0xzz"]}', -32602, 7),
        (b'{"id":7,"jsonrpc":"2.0","method":"eth_sendRawTransaction","params":["12"]}', -32602, 7),
    ],
)
async def test_bad_calls_get_an_error_with_their_id(body: bytes, code: int, call_id: Any) -> None:
    async with rig(EvmNode()) as r:
        answer = await r.raw(body)
        assert b'"code":%d' % code in answer
        if call_id is not ...:
            assert orjson.loads(answer)["id"] == call_id
        assert not [n for n, _ in r.counted if n]  # no use


async def test_a_batch_keeps_its_order_and_each_call_has_its_own_error() -> None:
    calls: list[Any] = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_blockNumber", "params": []},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_nonesuch", "params": []},
        {"jsonrpc": "2.0", "id": 2**53, "method": "eth_chainId", "params": []},
        5,
        {"jsonrpc": "2.0", "id": 0, "method": "eth_getBalance", "params": [ADDRESS, "latest"]},
    ]
    async with rig(EvmNode()) as r:
        answers = orjson.loads(await r.raw(orjson.dumps(calls)))
        assert [answer["id"] for answer in answers] == ["a", 2, 2**53, None, 0]
        assert answers[0]["result"] == hex(FIRST)
        assert answers[1]["error"]["code"] == -32601
        assert answers[2]["result"] == "0x3e7"
        assert answers[3]["error"]["code"] == -32600
        assert int(answers[4]["result"], 16) > 0
        assert sum(n for n, _ in r.counted) == 3
        too_many = orjson.loads(await r.raw(orjson.dumps(calls[:1] * (MAX_BATCH + 1))))
        assert (too_many["id"], too_many["error"]["code"]) == (None, -32600)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_comes_is_a_call_or_an_error(body: bytes) -> None:
    try:
        calls, _ = jsonrpc.parse(body)
    except RpcError:
        return
    for call in calls:
        answer = call.error.body if call.error else b"null"
        assert orjson.loads(jsonrpc.failure(call.id, answer))


async def test_a_rate_is_spent_by_weight_and_told_per_call_in_a_batch() -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    async with rig(EvmNode()) as r:
        r.who = customer(per_minute=3)
        answers = orjson.loads(await r.raw(orjson.dumps([call] * 5)))
        codes = [answer.get("error", {}).get("code") for answer in answers]
        assert codes == [None, None, None, -32005, -32005]
        assert answers[-1]["error"]["data"]["retryAfter"] > 0
        with pytest.raises(RateLimited):
            await r.ask("eth_chainId")


def test_the_table_permits_nothing_of_a_node_s_own() -> None:
    for name in ("admin_peers", "personal_sign", "debug_traceBlock", "txpool_content", "eth_sign"):
        method = method_of(name)
        assert method is not None
        assert method.permission is Permission.REFUSED
    senders = [name for name, m in METHODS.items() if m.permission is Permission.SEND]
    assert senders == ["eth_sendRawTransaction"]
    assert all(method.weight >= 1 for method in METHODS.values())


# --- memory ---


async def test_latest_is_one_block_for_all_and_asked_once() -> None:
    async with rig(node := EvmNode()) as r:
        first = await r.ask("eth_getBlockByNumber", "latest", False)
        again = await r.ask("eth_getBlockByNumber", hex(FIRST), False)
        assert first["result"] == again["result"]
        assert node.asked("eth_getBlockByNumber") == 1
        await r.at(FIRST + 1)
        newer = await r.ask("eth_getBlockByNumber", "latest", False)
        assert newer["result"]["parentHash"] == first["result"]["hash"]
        assert node.asked("eth_getBlockByNumber") == 2


async def test_those_who_ask_the_same_at_once_are_one() -> None:
    async def slow(_: web.Request) -> None:
        await asyncio.sleep(0.05)

    async with rig(node := EvmNode()) as r:
        node.fault = slow
        answers = await asyncio.gather(
            *(r.ask("eth_getBalance", ADDRESS, "latest", call_id=n) for n in range(20))
        )
        assert [answer["id"] for answer in answers] == list(range(20))
        assert len({answer["result"] for answer in answers}) == 1
        assert node.asked("eth_getBalance") == 1


async def test_what_is_not_there_yet_is_not_remembered() -> None:
    async with rig(node := EvmNode()) as r:
        for _ in range(2):
            assert (await r.ask("eth_getTransactionReceipt", "0x" + "00" * 32))["result"] is None
        assert node.asked("eth_getTransactionReceipt") == 2
        above = hex(FIRST + 5)
        assert (await r.ask("eth_getBlockByNumber", above, False))["result"] is None
        await r.at(FIRST + 5)
        found = await r.ask("eth_getBlockByNumber", above, False)
        assert found["result"]["number"] == above
        old = node.rpc.chain.transactions(FIRST - 1)[0]["hash"]
        for _ in range(2):
            assert (await r.ask("eth_getTransactionByHash", old))["result"]["hash"] == old
        assert node.asked("eth_getTransactionByHash") == 1
        for _ in range(2):
            await r.ask("eth_getTransactionCount", ADDRESS, "pending")
        assert node.asked("eth_getTransactionCount") == 2


async def test_a_node_s_own_error_passes_and_is_not_remembered() -> None:
    async with rig(node := EvmNode()) as r:
        for _ in range(2):
            call = {"to": node.rpc.chain.token, "data": "0xdeadbeef"}
            answer = await r.ask("eth_call", call, "latest")
            assert answer["error"] == {"code": 3, "message": "execution reverted"}
        assert node.asked("eth_call") == 2


async def test_logs_within_a_range_alone() -> None:
    async with rig(EvmNode()) as r:
        begin = hex(FIRST - 9)
        logs = await r.ask("eth_getLogs", {"fromBlock": begin, "toBlock": "latest"})
        assert len(logs["result"]) == sum(n % 4 for n in range(FIRST - 9, FIRST + 1))
        refused = await r.ask("eth_getLogs", {"fromBlock": hex(FIRST - MAX_LOG_BLOCKS)})
        assert refused["error"]["code"] == -32602
        assert refused["error"]["data"]["limit"] == MAX_LOG_BLOCKS
        hostile = await r.ask("eth_getLogs", {"address": [ADDRESS] * 101})
        assert hostile["error"]["code"] == -32602


# --- nodes ---


async def test_no_customer_ever_sees_the_chain_go_back() -> None:
    """The heaviest node falls behind, dies, and comes back: numbers only rise."""
    async with rig(first := EvmNode(), second := EvmNode()) as r:
        seen = []
        steps = [(1000, 1000), (1005, 1003), (1005, 1004), (1005, 1006), (1001, 1010), (1012, 1010)]
        for a, b in steps:
            await r.at(a, first)
            await r.at(b, second)
            seen.append(int((await r.ask("eth_blockNumber"))["result"], 16))
            block = await r.ask("eth_getBlockByNumber", "latest", False)
            seen.append(int(block["result"]["number"], 16))
        assert seen == sorted(seen)
        assert seen[-1] == 1012


async def test_a_node_more_than_three_blocks_behind_is_not_asked() -> None:
    async with rig(old := EvmNode(), fresh := EvmNode()) as r:
        await r.at(FIRST + 4, fresh)
        await r.ask("eth_getBalance", ADDRESS, hex(FIRST - 500))
        assert (old.asked("eth_getBalance"), fresh.asked("eth_getBalance")) == (0, 1)
        await r.at(FIRST + 1, old)  # three behind: good enough for what is old
        await r.ask("eth_getBalance", ADDRESS, hex(FIRST - 501))
        assert old.asked("eth_getBalance") == 1


@pytest.mark.parametrize("fault", [cut, failing(502, b"<html>"), failing(429), failing(200, b"x")])
async def test_one_retry_on_another(fault: Any) -> None:
    async with rig(bad := EvmNode(), good := EvmNode()) as r:
        bad.fault = fault
        answer = await r.ask("eth_getBalance", ADDRESS, "latest")
        assert int(answer["result"], 16) > 0
        assert (bad.asked("eth_getBalance"), good.asked("eth_getBalance")) == (1, 1)


async def test_the_deadline_holds() -> None:
    async with rig(a := EvmNode(), b := EvmNode(), c := EvmNode()) as r:
        a.fault = b.fault = c.fault = hang
        began_s = time.monotonic()
        answer = await r.ask("eth_getBalance", ADDRESS, "latest")
        assert time.monotonic() - began_s < 1.5 * DEADLINE_S  # one of its own for each would be 2
        assert answer["error"]["code"] == -32002
        assert c.asked("eth_getBalance") == 0


@pytest.mark.parametrize("method", ["eth_gasPrice", "eth_sendRawTransaction"])
async def test_a_failure_is_known_with_what_was_asked_and_how_long_a_node_was(method: str) -> None:
    async with rig(node := EvmNode()) as r:
        await r.evm.nodes.current_head()
        node.fault = cut
        call = over_socket("evm", r.who)
        params = ["0x12"] if method == "eth_sendRawTransaction" else []
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        outcome = await r.evm.serve(orjson.dumps(body), r.who, call=call)
        assert outcome.code in {"upstream_unavailable", "outcome_unknown"}
        assert call.kind == method
        assert call.upstream_s is not None


async def test_what_a_rate_refuses_is_known_by_its_method() -> None:
    async with rig(EvmNode()) as r:
        who, body = customer(per_minute=1), b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
        await r.evm.serve(body, who)
        call = over_socket("evm", who)
        with pytest.raises(RateLimited):
            await r.evm.serve(body, who, call=call)
        assert (call.kind, call.upstream_s) == ("eth_chainId", None)


async def test_without_nodes_it_says_so() -> None:
    async with rig() as r:
        answer = await r.ask("eth_blockNumber")
        assert "No EVM upstream is configured" in answer["error"]["message"]


# --- what is sent once ---

RAW = "0x" + "02" * 100


@pytest.mark.parametrize(
    ("fault", "was_sent"),
    [(cut, True), (failing(502), True), (failing(200, b"<html>"), True), (hang, True)],
)
async def test_a_transaction_is_never_sent_twice(
    fault: Any, *, was_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.evm.nodes.DEADLINE_S", 0.3)
    async with rig(bad := EvmNode(), good := EvmNode()) as r:
        bad.fault = fault
        answer = await r.ask("eth_sendRawTransaction", RAW)
        assert answer["error"]["data"] == {"reason": "outcome_unknown", "sent": was_sent}
        assert bad.asked("eth_sendRawTransaction") == 1
        assert good.asked("eth_sendRawTransaction") == 0


async def test_a_batch_that_sends_goes_one_after_the_other() -> None:
    async with rig(node := EvmNode()) as r:
        calls = [
            {"jsonrpc": "2.0", "id": n, "method": method, "params": params}
            for n, (method, params) in enumerate(
                [
                    ("eth_sendRawTransaction", [RAW]),
                    ("eth_getTransactionCount", [ADDRESS, "pending"]),
                ]
            )
        ]
        answers = orjson.loads(await r.raw(orjson.dumps(calls)))
        assert answers[0]["error"]["code"] == -32602  # the node's own words: no transaction
        assert answers[1]["result"] == "0x0"
        order = [orjson.loads(body)["method"] for body in node.posts]
        assert order[-2:] == ["eth_sendRawTransaction", "eth_getTransactionCount"]


# --- subscriptions ---


async def test_a_block_is_read_once_however_many_follow_it() -> None:
    async with rig(node := EvmNode()) as r:
        heads = Heads(r.evm)
        await r.evm.nodes.current_head()
        job = asyncio.ensure_future(heads.run())
        told: list[tuple[str, Any]] = []
        all_told = asyncio.Event()

        def tell(id_: str, body: bytes) -> None:
            told.append((id_, orjson.loads(body)))
            if sum(each == "all" for each, _ in told) == 6:  # the last of the third block
                all_told.set()

        token = node.rpc.chain.token
        for n in range(10):
            heads.add(Follower(f"h{n}", None, tell))
        heads.add(Follower("all", LogFilter({"address": token}), tell))
        heads.add(Follower("none", LogFilter({"address": ADDRESS}), tell))
        await r.at(FIRST + 3)
        async with asyncio.timeout(5):
            await all_told.wait()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    numbers = [int(head["number"], 16) for id_, head in told if id_ == "h0"]
    assert numbers == [FIRST + 1, FIRST + 2, FIRST + 3]
    assert "transactions" not in next(head for id_, head in told if id_ == "h0")
    logs = [log for id_, log in told if id_ == "all"]
    assert len(logs) == sum(n % 4 for n in numbers)
    assert not [id_ for id_, _ in told if id_ == "none"]
    assert node.asked("eth_getBlockByNumber") == 3
    assert node.asked("eth_getLogs") == 3
