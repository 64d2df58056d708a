import assert from "node:assert/strict";
import { test } from "node:test";

import { Candles } from "../market/candles.js";
import { Clock } from "../market/clock.js";
import { coinsOf, search } from "../market/coins.js";
import * as numbers from "../market/numbers.js";
import { Tape } from "../market/tape.js";

const trade = (tid, sz = "1.0") => ({ coin: "BTC", side: "B", px: "10.0", sz, time: tid, tid });

test("the tape never grows beyond its bound, and keeps its order", () => {
  const tape = new Tape(3);
  tape.take({ data: [trade(1), trade(2, "7.0")] });
  tape.event("warning", "gap", 3);
  tape.event("warning", "gap", 4);
  tape.take({ data: [trade(5)] });
  assert.deepEqual(tape.lines.map(({ atMs }) => atMs), [5, 4, 2]);
  assert.equal(tape.biggest, 7);
  assert.equal(tape.count, 3);
});

test("a snapshot replaces trades and keeps what happened", () => {
  const tape = new Tape();
  tape.take({ data: [trade(1)] });
  tape.event("info", "connected", 2);
  tape.take({ snapshot: true, data: [trade(1), trade(3)] });
  assert.deepEqual(tape.lines.map(({ kind, atMs }) => [kind, atMs]), [["trade", 3], ["trade", 1], ["event", 2]]);
});

const candle = (t, c, n = 1) => ({ t, i: "1m", o: "1", h: "3", l: "1", c, v: "2", n });

test("candles are merged by their beginning and bounded", () => {
  const candles = new Candles("1m", 3);
  candles.take([candle(3, "5", 9)]);
  candles.take([candle(1, "1"), candle(2, "2"), candle(3, "3", 4)], { isHistory: true });
  assert.deepEqual(candles.rows.map(({ t, c }) => [t, c]), [[1, 1], [2, 2], [3, 5]]);
  candles.take([candle(4, "4")]);
  assert.deepEqual(candles.rows.map(({ t }) => t), [2, 3, 4]);
  candles.take([{ ...candle(5, "1"), i: "5m" }]);
  assert.equal(candles.rows.length, 3);
  assert.deepEqual(Candles.range(candles.rows), { low: 1, high: 3, volume: 2 });
  assert.equal(Candles.range([]), null);
});

test("a clock that is wrong does not pass for age", () => {
  const clock = new Clock();
  clock.asked(0);
  clock.answered(20);
  clock.frame(1_000, 6_010); // five seconds ahead, 10 ms on its way
  assert.equal(clock.offsetMs, 5_000);
  assert.equal(clock.age(900, 6_010), 110);
  assert.equal(clock.age(2_000, 6_010), 0);
  assert.equal(new Clock().age(900, 1_000), 100);
});

test("coins are found by the beginning of their name first", () => {
  const perps = [{ universe: [{ name: "BTC" }, { name: "WBTC" }, { name: "OLD", isDelisted: true }] }, [{ dayNtlVlm: "1" }, { dayNtlVlm: "9" }]];
  const spot = [{ universe: [{ name: "@107", tokens: [150, 0] }], tokens: [{ index: 0, name: "USDC" }, { index: 150, name: "HYPE" }] }, [{ coin: "@107", dayNtlVlm: "5" }]];
  const dexes = [[{ universe: [{ name: "xyz:SP500" }] }, []]];
  const coins = coinsOf({ perps, spot, dexes });
  assert.deepEqual(coins.map(({ coin }) => coin), ["WBTC", "@107", "BTC", "xyz:SP500"]);
  assert.deepEqual(search(coins, "btc").map(({ coin }) => coin), ["BTC", "WBTC"]);
  assert.deepEqual(search(coins, "hype/").map(({ coin }) => coin), ["@107"]);
  assert.deepEqual(search(coins, "sp").map(({ coin }) => coin), ["xyz:SP500"]);
  assert.deepEqual(search(coins, "nothing"), []);
  assert.deepEqual(coinsOf({}), []);
});

test("numbers as traders read them", () => {
  assert.equal(numbers.price("84073.0"), "84,073");
  assert.equal(numbers.price("1234567.25"), "1,234,567.25");
  assert.equal(numbers.price("0.0098465"), "0.0098465");
  assert.deepEqual([numbers.price("38.5", 2), numbers.price("84073.0", 0)], ["38.50", "84,073"]);
  assert.equal(numbers.decimals(84073), 0);
  assert.equal(numbers.decimals(0.0098), 7);
  assert.deepEqual([312.4, 2_345, 95_000, 400_000, 8e6].map(numbers.age), ["312 ms", "2.3 s", "95 s", "6.7 min", "2.2 h"]);
});
