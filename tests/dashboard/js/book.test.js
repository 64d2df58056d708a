import assert from "node:assert/strict";
import { test } from "node:test";

import { Book, crc32 } from "../market/book.js";

const level = (px, sz, n = 1) => ({ px, sz, n });
const snapshot = (bids, asks, rest = {}) => ({
  channel: "l2Diff", snapshot: true, seq: 1, prevSeq: 0,
  data: { coin: "BTC", time: 5, height: 9, levels: [bids, asks] }, ...rest,
});
const diff = (seq, bids, asks, data = {}) => ({
  channel: "l2Diff", seq, prevSeq: seq - 1,
  data: { coin: "BTC", time: 6, height: 10, levels: [bids, asks], ...data },
});
const begun = () => {
  const book = new Book();
  book.take(snapshot([level("100.0", "1.0"), level("99.0", "2.0")], [level("101.0", "3.0"), level("103.0", "1.0")]));
  return book;
};
const prices = (book, side) => book.sides[side].map(({ px }) => px);

test("levels are put in place, changed, and taken away", () => {
  const book = begun();
  assert.equal(book.take(diff(2, [level("99.5", "4.0"), level("100.0", "0.0", 0)], [level("102.0", "1.0"), level("101.0", "9.0")])), "taken");
  assert.deepEqual(prices(book, 0), ["99.5", "99.0"]);
  assert.deepEqual(prices(book, 1), ["101.0", "102.0", "103.0"]);
  assert.equal(book.sides[1][0].size, 9);
  assert.equal(book.height, 10);
});

test("what does not follow empties the book until a snapshot", () => {
  const book = begun();
  assert.equal(book.take(diff(3, [], [])), "broken");
  assert.deepEqual(book.sides, [[], []]);
  assert.equal(book.take(diff(4, [level("1", "1")], [])), "broken");
  assert.equal(book.take(snapshot([level("50.0", "1.0")], [])), "taken");
  assert.deepEqual(prices(book, 0), ["50.0"]);
});

test("a level that is not there is taken away without harm", () => {
  const book = begun();
  book.take(diff(2, [level("12.0", "0.0", 0)], []));
  assert.deepEqual(prices(book, 0), ["100.0", "99.0"]);
});

test("the checksum is zlib's, and a wrong copy is not shown", () => {
  assert.equal(crc32("123456789"), 0xcbf43926);
  const book = begun();
  const right = crc32("100.0:1.0,99.0:2.0|101.0:3.0,103.0:1.0");
  assert.equal(book.checksum(), right);
  assert.equal(book.take(diff(2, [], [], { checksum: right })), "taken");
  assert.equal(book.take(diff(3, [], [], { checksum: right + 1 })), "wrong");
  assert.equal(book.isWhole, false);
});

test("a whole book replaces the one before, whatever came between", () => {
  const book = begun();
  const frame = { channel: "l2Book", seq: 40, data: { coin: "BTC", time: 7, levels: [[level("98.0", "1.0")], [level("99.0", "1.0")]] } };
  assert.equal(book.take(frame), "taken");
  assert.deepEqual(prices(book, 0), ["98.0"]);
  assert.equal(book.height, 9);
});

test("sums, spread and balance", () => {
  const book = begun();
  assert.deepEqual(book.ladder(0, 5).map(({ total }) => total), [1, 3]);
  assert.deepEqual(book.ladder(1, 1).map(({ total }) => total), [3]);
  const { mid, spread, spreadBps } = book.touch();
  assert.deepEqual([mid, spread], [100.5, 1]);
  assert.ok(Math.abs(spreadBps - 99.5) < 0.01);
  assert.equal(book.balance(1), 0.25);
  assert.equal(new Book().touch(), null);
  assert.equal(new Book().balance(5), null);
});

test("law: changes on a snapshot are the snapshot of then", () => {
  let seed = 7;
  const random = (most) => (seed = (seed * 48271) % 2147483647) % most;
  const truth = [new Map(), new Map()];
  const whole = (side) => [...truth[side].values()].sort((a, b) => (side ? a.px - b.px : b.px - a.px));
  const book = new Book();
  book.take(snapshot([], []));
  for (let seq = 2; seq < 1_000; seq += 1) {
    const side = random(2);
    const px = String(100 + (side ? 1 + random(30) : -random(30)));
    const change = random(3) ? level(px, String(1 + random(9))) : level(px, "0.0", 0);
    if (change.n) truth[side].set(px, change);
    else truth[side].delete(px);
    assert.equal(book.take(diff(seq, side ? [] : [change], side ? [change] : [])), "taken");
  }
  for (const side of [0, 1]) {
    assert.deepEqual(book.sides[side].map(({ px, sz }) => [px, sz]), whole(side).map(({ px, sz }) => [px, sz]));
  }
});
