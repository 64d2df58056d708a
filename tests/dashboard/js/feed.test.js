import assert from "node:assert/strict";
import { test } from "node:test";

import { Feed, fetchToken, MAX_RESUME_MS } from "../live/feed.js";

/** A feed on sockets, tokens and a time of the test's own. */
function rig() {
  const made = { sockets: [], told: [], nowMs: 1_000, timers: [] };
  const open = (url, protocols) => {
    const socket = { url, protocols, sent: [], readyState: 0, send: (text) => socket.sent.push(JSON.parse(text)), close: () => (socket.readyState = 3) };
    made.sockets.push(socket);
    return socket;
  };
  const on = {
    frame: (name, frame) => made.told.push(["frame", name, frame.data]),
    event: (name, data) => made.told.push(["event", name, data.type]),
    state: (state) => made.told.push(["state", state]),
    resume: (name, isRecent) => made.told.push(["resume", name, isRecent]),
  };
  made.feed = new Feed({
    token: made.token = async () => ({ token: "t", ws: "ws://relay/ws", expires_in: 900 }),
    on, open, now: () => made.nowMs,
    later: (act, ms) => made.timers.push({ act, at: made.nowMs + ms, isOff: false }) - 1,
    never: (timer) => (made.timers[timer].isOff = true),
  });
  made.pass = async (ms) => {
    made.nowMs += ms;
    for (const timer of made.timers) if (!timer.isOff && timer.at <= made.nowMs) (timer.isOff = true), timer.act();
    await settle();
  };
  made.opened = async () => {
    await settle();
    const socket = made.sockets.at(-1);
    socket.readyState = 1;
    socket.onopen();
    return socket;
  };
  made.say = (socket, frame) => socket.onmessage({ data: JSON.stringify(frame) });
  return made;
}
const settle = () => new Promise((resolve) => setImmediate(resolve));
const subscribed = (socket) => socket.sent.filter(({ method }) => method === "subscribe");

test("the token is never in the address", async () => {
  const made = rig();
  made.feed.start();
  const socket = await made.opened();
  assert.equal(socket.url, "ws://relay/ws");
  assert.deepEqual(socket.protocols, ["hlrelay.v1", "hlrelay.key.t"]);
});

test("after a break it goes on at the last cursor, and says so", async () => {
  const made = rig();
  made.feed.follow("trades", { type: "trades", coin: "BTC" }, { resumes: true });
  made.feed.follow("book", { type: "l2Diff", coin: "BTC" });
  made.feed.start();
  const first = await made.opened();
  const [{ id }] = subscribed(first);
  made.say(first, { channel: "trades", id, seq: 1, cursor: "C1", data: [] });
  first.onclose({ code: 1006 });
  await made.pass(300);
  const second = await made.opened();
  const [trades, book] = subscribed(second);
  assert.equal(trades.from, "C1");
  assert.equal(book.from, undefined);
  assert.ok(made.told.some(([what, name, isRecent]) => what === "resume" && name === "trades" && isRecent));
});

test("a gap's cursor is kept, and old news are not gone on with", async () => {
  const made = rig();
  made.feed.follow("trades", { type: "trades", coin: "BTC" }, { resumes: true });
  made.feed.start();
  const first = await made.opened();
  const [{ id }] = subscribed(first);
  made.say(first, { channel: "trades", id, seq: 1, cursor: "C1", data: [] });
  made.say(first, { channel: "relay", data: { type: "gap", id, to: "C2" } });
  made.feed.pause();
  made.feed.start();
  const second = await made.opened();
  assert.equal(subscribed(second)[0].from, "C2");
  made.feed.pause();
  await made.pass(MAX_RESUME_MS + 1);
  made.feed.start();
  assert.equal(subscribed(await made.opened())[0].from, undefined);
});

test("what cannot be gone on with begins anew", async () => {
  const made = rig();
  made.feed.follow("trades", { type: "trades", coin: "BTC" }, { resumes: true });
  made.feed.start();
  const socket = await made.opened();
  const [{ id }] = subscribed(socket);
  made.say(socket, { channel: "trades", id, seq: 1, cursor: "C1", data: [] });
  made.say(socket, { channel: "relay", data: { type: "resumeFailed", id } });
  const last = subscribed(socket).at(-1);
  assert.notEqual(last.id, id);
  assert.equal(last.from, undefined);
});

test("frames of what is not followed any more are nobody's", async () => {
  const made = rig();
  made.feed.follow("book", { type: "l2Diff", coin: "BTC" });
  made.feed.start();
  const socket = await made.opened();
  const [{ id }] = subscribed(socket);
  made.feed.follow("book", { type: "l2Diff", coin: "ETH" });
  made.say(socket, { channel: "l2Diff", id, seq: 1, data: "old" });
  made.say(socket, { channel: "l2Diff", id: subscribed(socket).at(-1).id, seq: 1, data: "new" });
  assert.deepEqual(made.told.filter(([what]) => what === "frame"), [["frame", "book", "new"]]);
  assert.ok(socket.sent.some((message) => message.method === "unsubscribe" && message.id === id));
});

test("a line that is silent, pongs too, is taken as broken", async () => {
  const made = rig();
  made.feed.start();
  await made.opened();
  for (let ping = 0; ping < 4; ping += 1) await made.pass(10_000);
  assert.equal(made.feed.state === "waiting" || made.sockets.length === 2, true);
});

test("a new token is taken before the old one ends", async () => {
  const made = rig();
  made.feed.start();
  const socket = await made.opened();
  for (let ping = 0; ping < 85; ping += 1) {
    made.say(socket, { channel: "pong" });
    await made.pass(10_000);
  }
  assert.ok(made.sockets.length >= 2);
});

test("paused, it opens nothing; and who is signed out is not asked again", async () => {
  const made = rig();
  made.feed.start();
  made.feed.pause();
  await settle();
  assert.equal(made.sockets.length, 0);
  made.feed.token = async () => {
    throw Object.assign(new Error("signed-out"), { isFinal: true });
  };
  made.feed.start();
  await settle();
  assert.deepEqual(made.told.at(-1), ["state", "refused"]);
  await made.pass(60_000);
  assert.equal(made.feed.state, "refused");
});

test("a token's refusal says whether trying again helps", async () => {
  const answers = (status) => ({ fetch: async () => ({ ok: false, status }) });
  await assert.rejects(fetchToken("/t", "c", answers(401)), (error) => error.isFinal && error.message === "signed-out");
  await assert.rejects(fetchToken("/t", "c", answers(503)), (error) => !error.isFinal);
  const away = { fetch: async () => { throw new TypeError(); } };
  await assert.rejects(fetchToken("/t", "c", away), (error) => !error.isFinal);
});
