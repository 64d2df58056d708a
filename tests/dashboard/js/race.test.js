import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { asText, eventsOf, Race, shown } from "../race/core.js";
import { run } from "../race/run.js";

const cases = JSON.parse(readFileSync(new URL("./race.json", import.meta.url)));

test("the rules are those of race.py: its results of these frames", () => {
  assert.ok(cases.length > 5);
  for (const { channel, coin, frames, result } of cases) {
    const race = new Race();
    for (const [side, frame, atMs] of frames) race.frame(side, eventsOf(frame, { channel, coin }), atMs);
    assert.deepEqual(race.result(), result);
  }
});

test("nothing heard is nothing compared", () => {
  const { compared, p50_ms, histogram } = new Race().result();
  assert.deepEqual([compared, p50_ms, Math.max(...histogram)], [0, null, 0]);
});

test("an address is shown without what may be a key", () => {
  assert.equal(shown("wss://host:8443/SECRET/ws?token=SECRET"), "wss://host:8443");
  assert.throws(() => shown("https://host/"), TypeError);
  assert.throws(() => shown("host"), TypeError);
  const result = new Race().result();
  assert.ok(!asText(result, { a: shown("wss://x/SECRET"), b: "wss://y", channel: "bbo", coin: "BTC" }).includes("SECRET"));
});

function sockets() {
  const made = [];
  const open = (url, protocols) => {
    const socket = { url, protocols, sent: [], readyState: 1, send: (text) => socket.sent.push(text), close: () => (socket.isClosed = true) };
    made.push(socket);
    return socket;
  };
  return { made, open };
}
const ENDS = [{ url: "wss://a", protocols: ["p"] }, { url: "wss://b" }];
const trade = (tid) => JSON.stringify({ channel: "trades", data: [{ coin: "BTC", time: tid, tid, side: "A", px: "1", sz: "1" }] });

test("both are asked in the same moment, when both stand, and are closed at the end", async () => {
  const { made, open } = sockets();
  const racing = run(ENDS, { channel: "trades", coin: "BTC", ms: 30, open });
  made[0].onopen();
  assert.deepEqual(made[0].sent, []);
  made[1].onopen();
  assert.equal(made[0].sent.length, 1);
  assert.deepEqual(made[0].sent, made[1].sent);
  assert.deepEqual(made.map(({ protocols }) => protocols), [["p"], []]);
  for (const tid of [1, 2, 3]) made.forEach((socket) => socket.onmessage({ data: trade(tid) }));
  const race = await racing;
  assert.equal(race.result().compared, 1);
  assert.ok(made.every(({ isClosed }) => isClosed));
});

test("who fails is named", async () => {
  const begin = (act) => {
    const { made, open } = sockets();
    const racing = run(ENDS, { channel: "trades", coin: "BTC", ms: 20, open });
    act(made);
    return racing;
  };
  const both = (made) => made.forEach((socket) => socket.onopen());
  await assert.rejects(begin((made) => made[1].onclose({ code: 1006 })), { side: 1, code: "refused" });
  await assert.rejects(begin((made) => (both(made), made[0].onclose({ code: 1006 }))), { side: 0, code: "ended" });
  await assert.rejects(begin((made) => (both(made), made[1].onmessage({ data: '{"channel":"error","data":"no"}' }))), { side: 1, code: "error", detail: "no" });
  await assert.rejects(begin((made) => (both(made), made[0].onmessage({ data: trade(1) }))), { side: 1, code: "silent" });
});
