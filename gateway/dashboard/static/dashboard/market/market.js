// The market page: one coin's book, trades and candles from the relay's own socket. What comes is
// kept at once and drawn at the next frame of the screen; a hidden page closes its socket.

import { Feed, fetchToken } from "../live/feed.js";
import { Book } from "./book.js";
import { Candles } from "./candles.js";
import { Chart } from "./chart.js";
import { Clock } from "./clock.js";
import { coinsOf } from "./coins.js";
import { Depth } from "./depth.js";
import { Health } from "./health.js";
import { Ladder } from "./ladder.js";
import { age, compact, count, decimals, price } from "./numbers.js";
import { Picker } from "./picker.js";
import { Tape } from "./tape.js";
import { TapeView } from "./tape_view.js";

const ROWS = 13;
const TAPE_ROWS = 60;
const LEVELS = 100;
const STALE_AFTER_MS = 3_000;
const PAUSE_AFTER_MS = 5_000;
/** Without a frame of changes for so long, whole books are asked for: not every upstream has both. */
const WHOLE_AFTER_MS = 4_000;
const MAX_DEXES = 8;

const root = document.getElementById("market");
const texts = JSON.parse(document.getElementById("market-texts").textContent);
const part = (name) => root.querySelector(`[data-${name}]`);
const say = (name, text) => {
  const found = part(name);
  if (found.textContent !== text) found.textContent = text;
};
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

let coin = root.dataset.coin;
let token = null;
let wholeTimer = null;
let pauseTimer = null;
let isWanted = false;
let lacksHistory = false;
const dirty = new Set();
const book = new Book();
const tape = new Tape();
const clock = new Clock();
const health = new Health();
let candles = new Candles("1m");

const ladder = new Ladder({ asks: part("asks"), bids: part("bids"), rows: ROWS });
const tapeView = new TapeView(part("tape"), TAPE_ROWS);
const chart = new Chart(part("chart"), part("candle"), () => redraw("candles"));
const depth = new Depth(part("depth"), () => redraw("book"));

const feed = new Feed({
  token: newToken,
  on: { frame, event, state, resume, ping: (at) => clock.asked(at), pong: (at) => clock.answered(at) },
});

// --- what comes ---

function frame(name, told, atMs) {
  if (told.t) clock.frame(told.t.out / 1e6, atMs);
  health.frame(name, told, atMs);
  if (name === "book") {
    clearTimeout(wholeTimer);
    const became = book.take(told);
    if (became !== "taken") {
      note("gap", texts[became]);
      feed.again("book");
    }
    say("message", "");
    if (lacksHistory) loadHistory();
    redraw("book", "touch");
  } else if (name === "trades") {
    tape.take(told);
    redraw("tape", "touch");
  } else if (name === "candle") {
    candles.take([told.data]);
    redraw("candles");
  } else if (name === "context") context(told.data.ctx);
}

function event(name, data) {
  const what = texts.topics[name] ?? "";
  if (data.type === "gap") {
    health.gaps += 1;
    const to = data.toHeight === null ? "…" : count(data.toHeight);
    note("gap", fill(texts.gap, { what, from: count(data.fromHeight ?? 0), to, reason: data.reason ?? "" }));
    if (name === "book") book.clear();
  } else if (data.type === "stale") {
    health.stale.add(name);
    note("gap", fill(data.ageMs ? texts.stale : texts.staleNow, { what, age: age(data.ageMs ?? 0) }));
  } else if (data.type === "fresh") {
    health.stale.delete(name);
    note("info", fill(texts.fresh, { what }));
  } else if (data.type === "resync") note("gap", fill(texts.resync, { what, reason: data.reason ?? "" }));
  else if (data.type === "resumeFailed") note("gap", fill(texts.resumeFailed, { what }));
  else if (data.type === "replayComplete" && name === "trades") note("info", texts.replayed);
  else if (data.type === "goingAway") note("info", texts.goingAway);
  else if (data.type === "error" && data.code !== "not_ready") {
    if (name === "book" && ["unknown_type", "not_in_plan"].includes(data.code)) whole();
    else if (name === "book") say("message", [data.msg, ...(data.near ?? [])].join(" · "));
    else if (data.code === "unknown_coin") return; // said once
    else if (name !== "context") note("gap", `${what} ${data.msg}`);
  }
  redraw("state", "tape");
}

function state(now, detail) {
  if (now === "live") note("info", texts.connected);
  else if (now === "waiting") {
    note("gap", fill(texts.lost, { code: detail.code ? ` (${detail.code})` : "" }));
    health.stale.clear();
    book.isWhole = false;
  } else if (now === "paused" && isWanted) note("info", texts.paused);
  redraw("state", "tape");
}

function resume(name, isRecent) {
  if (name === "trades") note("info", isRecent ? texts.resumed : texts.notResumed);
}

function note(level, text) {
  tape.event(level, text.replace(/\s+/g, " ").trim(), Date.now());
  redraw("tape");
}

function context(now) {
  const change = (Number(now.midPx ?? now.markPx) / Number(now.prevDayPx) - 1) * 100;
  say("change", Number.isFinite(change) ? `${change >= 0 ? "+" : ""}${change.toFixed(2)} %` : "–");
  part("change").dataset.trend = change >= 0 ? "up" : "down";
  say("mark", now.markPx ? price(now.markPx) : "–");
  say("volume", now.dayNtlVlm ? `$${compact(Number(now.dayNtlVlm))}` : "–");
  say("interest", now.openInterest ? compact(Number(now.openInterest)) : "–");
  say("funding", now.funding ? `${(Number(now.funding) * 100).toFixed(4)} %` : "–");
}

// --- what is followed ---

function follow() {
  health.forget();
  say("message", texts.waiting);
  say("coin", nameOf(coin));
  ["change", "mark", "volume", "interest", "funding"].forEach((name) => say(name, "–"));
  book.clear();
  tape.clear();
  followBook();
  feed.follow("trades", { type: "trades", coin }, { resumes: true, onSlow: "skip" });
  feed.follow("context", { type: "activeAssetCtx", coin });
  followCandles();
  redraw("book", "tape", "touch", "state");
}

function followBook() {
  clearTimeout(wholeTimer);
  wholeTimer = setTimeout(whole, WHOLE_AFTER_MS);
  const [nSigFigs, mantissa] = part("aggregation").value.split(":").map((text) => (text ? Number(text) : null));
  book.clear();
  health.stale.delete("book");
  const subscription = { type: "l2Diff", coin, nLevels: LEVELS, nSigFigs: nSigFigs ?? null };
  if (mantissa) subscription.mantissa = mantissa;
  feed.follow("book", subscription, { maxAgeMs: STALE_AFTER_MS });
}

function whole() {
  if (book.isWhole || feed.state !== "live") return;
  const { nSigFigs, mantissa } = feed.topics.get("book").subscription;
  note("info", texts.whole);
  feed.follow("book", { type: "l2Book", coin, nSigFigs, ...(mantissa ? { mantissa } : {}) });
}

function followCandles() {
  candles = new Candles(root.querySelector("[name=interval]:checked").value);
  feed.follow("candle", { type: "candle", coin, interval: candles.interval });
  redraw("candles");
  lacksHistory = true;
  if (book.isWhole) loadHistory();
}

/** Once the coin is known to be one: of another the exchange says 500. */
async function loadHistory() {
  lacksHistory = false;
  const wanted = candles;
  const now = Date.now();
  const req = { coin, interval: wanted.interval, startTime: Math.floor(wanted.begin(now)), endTime: now };
  const rows = await info({ type: "candleSnapshot", req });
  if (wanted !== candles) return; // another coin or interval since
  if (Array.isArray(rows)) wanted.take(rows, { isHistory: true });
  else note("info", texts.noHistory);
  redraw("candles");
}

function look(at) {
  if (at === coin) return;
  coin = at;
  const url = new URL(location.href);
  url.searchParams.set("coin", coin);
  history.replaceState(null, "", url);
  follow();
}

async function newToken() {
  const given = await fetchToken(root.dataset.tokenUrl, root.dataset.csrf);
  token = { ...given, untilMs: Date.now() + given.expires_in * 1_000 };
  return token;
}

/** What /info answers, null where it does not. */
async function info(body) {
  try {
    if (!token || Date.now() > token.untilMs) await newToken();
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token.token}` };
    const answer = await fetch("/info", { method: "POST", headers, body: JSON.stringify(body) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

// --- coins ---

let coins = [];
let markets = {};
const nameOf = (wanted) => coins.find((each) => each.coin === wanted)?.name ?? wanted;
const picker = new Picker({
  dialog: document.getElementById("coins"),
  input: document.getElementById("coin-search"),
  list: document.getElementById("coin-list"),
  empty: document.getElementById("coin-empty"),
  button: part("pick"),
  kinds: texts.kinds,
  chosen: look,
  opened: loadDexes,
});

async function loadCoins() {
  const [perps, spot] = await Promise.all([info({ type: "metaAndAssetCtxs" }), info({ type: "spotMetaAndAssetCtxs" })]);
  markets = { ...markets, perps, spot };
  coins = coinsOf(markets);
  picker.know(coins);
  say("coin", nameOf(coin));
}

/** Of the other exchanges, once somebody looks for a coin: nine reads are 180 of the 400 that an account's pages may
 * weigh at once, and a page that was loaded twice could not load its candles. */
async function loadDexes() {
  const told = await info({ type: "perpDexs" });
  if (told === null) picker.opened = loadDexes; // again at the next look
  const named = (told ?? []).filter(Boolean).slice(0, MAX_DEXES);
  const dexes = await Promise.all(named.map(({ name }) => info({ type: "metaAndAssetCtxs", dex: name })));
  markets = { ...markets, dexes: dexes.filter(Boolean) };
  coins = coinsOf(markets);
  picker.know(coins);
}

// --- drawing: once a frame of the screen, and only what changed ---

function redraw(...what) {
  if (!dirty.size) requestAnimationFrame(draw);
  what.forEach((each) => dirty.add(each));
}

function draw() {
  if (dirty.has("book")) {
    ladder.draw(book);
    depth.draw(book, LEVELS);
  }
  if (dirty.has("tape")) tapeView.draw(tape);
  if (dirty.has("candles")) chart.draw(candles);
  if (dirty.has("touch")) drawTouch();
  if (dirty.has("state")) drawState();
  dirty.clear();
}

function drawTouch() {
  const touch = book.touch();
  const { last } = tape;
  say("last", last ? price(last.px) : touch ? price(touch.bid.px) : "–");
  if (last) part("last").dataset.trend = last.isBuy ? "up" : "down";
  say("mid", touch ? price(touch.mid.toFixed(Math.min(8, decimals(touch.mid) + 1))) : "–");
  say("spread", touch ? `${price(touch.spread.toPrecision(4).replace(/\.?0+$/, ""))} · ${touch.spreadBps.toFixed(2)} bps` : "–");
  const balance = book.balance(ROWS);
  say("balance", balance === null ? "–" : `${Math.round(balance * 100)} / ${100 - Math.round(balance * 100)}`);
  part("balance-bar").value = balance ?? 0.5;
}

function drawState() {
  const now = feed.state === "live" ? (health.isStale ? "stale" : book.isWhole ? "live" : "waiting-book") : feed.state;
  root.dataset.state = now;
  say("state", texts.states[now]);
  if (feed.state === "refused") say("message", texts.refused);
}

function drawFigures() {
  const at = Date.now();
  const told = health.book;
  say("height", book.height === null ? "–" : count(book.height));
  say("latency", told.blockMs ? age(clock.age(told.blockMs, told.atMs)) : "–");
  say("hop", told.hopMs === null ? "–" : `${told.hopMs.toFixed(1)} ms`);
  say("quiet", told.atMs ? age(at - told.atMs) : "–");
  say("sequence", told.seq ? count(told.seq) : "–");
  say("rate", health.rate(at).toFixed(1));
  say("gaps", count(health.gaps));
  part("gaps").dataset.any = health.gaps > 0 ? "yes" : "no";
  const { last } = tape;
  if (last) document.title = `${price(last.px)} ${nameOf(coin)} · ${texts.title}`;
  redraw("state");
}

// --- the page ---

part("aggregation").addEventListener("change", followBook);
part("intervals").addEventListener("change", followCandles);
document.addEventListener("visibilitychange", () => {
  clearTimeout(pauseTimer);
  if (document.hidden) pauseTimer = setTimeout(() => feed.pause(), PAUSE_AFTER_MS);
  else if (isWanted) feed.start();
});
window.addEventListener("pagehide", () => feed.pause());
window.addEventListener("pageshow", (event) => event.persisted && isWanted && feed.start());
part("pause").addEventListener("click", (event) => {
  isWanted = !isWanted;
  event.currentTarget.setAttribute("aria-pressed", String(!isWanted));
  if (isWanted) feed.start();
  else feed.pause();
  redraw("state");
});

isWanted = true;
feed.start();
follow();
loadCoins();
setInterval(() => document.hidden || drawFigures(), 250);
