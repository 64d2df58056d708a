// The race page: a form, a race, a table. Nothing of it is stored or sent anywhere but to the two
// endpoints; a key goes to this relay alone.

import { fetchToken } from "../live/feed.js";
import { asText, EDGES_MS, shown } from "./core.js";
import { Failed, run } from "./run.js";

const PROTOCOL = "hlrelay.v1";
const KEY_PROTOCOL = "hlrelay.key.";
const root = document.getElementById("race");
const form = root.querySelector("form");
const texts = JSON.parse(document.getElementById("race-texts").textContent);
const part = (name) => root.querySelector(`[data-${name}]`);
const ms = (value) => (value === null ? "–" : value.toFixed(2));
const count = new Intl.NumberFormat("en-US").format;
let stop = null;
let last = null;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (stop) {
    stop.abort();
    return;
  }
  const given = Object.fromEntries(new FormData(form));
  const told = { channel: given.channel, coin: given.coin.trim(), a: shown(root.dataset.ws) };
  try {
    told.b = shown(given.url.trim());
  } catch {
    say("error", texts.noUrl);
    form.elements.url.focus();
    return;
  }
  if (told.b.startsWith("ws:") && !root.dataset.loopback) {
    say("error", texts.noTls);
    form.elements.url.focus();
    return;
  }
  stop = new AbortController();
  running(true);
  try {
    const key = root.dataset.tokenUrl
      ? (await fetchToken(root.dataset.tokenUrl, root.dataset.csrf)).token
      : given.key.trim();
    const ends = [
      { url: root.dataset.ws, protocols: [PROTOCOL, KEY_PROTOCOL + key] },
      { url: given.url.trim() },
    ];
    const total = Number(given.seconds) * 1_000;
    const progress = (race, leftMs) => {
      part("progress").value = 1 - leftMs / total;
      show(race.result(), told);
    };
    const race = await run(ends, { ...told, ms: total, signal: stop.signal, progress });
    const result = race.result();
    show(result, told);
    say(result.compared ? "info" : "error", result.compared ? texts.done : texts.nothing);
  } catch (error) {
    const name = error.side >= 0 ? `${"AB"[error.side]} (${[told.a, told.b][error.side]}) ` : "";
    const known = error instanceof Failed ? texts.failed[error.code] : texts.noToken;
    say("error", `${name}${known} ${error.detail ?? ""}`.trim());
  } finally {
    stop = null;
    running(false);
  }
});

function running(is) {
  if (is) say("info", texts.running);
  part("submit").textContent = is ? texts.stop : texts.start;
  root.toggleAttribute("data-running", is);
  part("progress").hidden = !is;
  part("progress").value = 0;
}

function say(level, text) {
  const status = part("status");
  status.textContent = text;
  status.dataset.level = level;
}

function show(result, told) {
  last = { told, result };
  part("result").hidden = !result.compared;
  if (!result.compared) return;
  part("name-a").textContent = told.a;
  part("name-b").textContent = told.b;
  for (const side of ["a", "b"]) {
    const { events, first, missing, twice, lead_p50_ms, lead_p99_ms } = result[side];
    const share = `${count(first)} (${Math.round((first / result.compared) * 100)} %)`;
    const values = { events: count(events), first: share, missing: count(missing), twice: count(twice), p50: ms(lead_p50_ms), p99: ms(lead_p99_ms) };
    for (const [name, value] of Object.entries(values)) part(`${side}-${name}`).textContent = value;
  }
  const { p50_ms: p50 } = result;
  part("headline").textContent = p50 === 0 ? texts.even
    : (p50 < 0 ? texts.weFirst : texts.theyFirst).replace("{ms}", Math.abs(p50).toFixed(Math.abs(p50) < 10 ? 2 : 0));
  part("detail").textContent = texts.detail
    .replace("{compared}", count(result.compared)).replace("{seconds}", result.seconds.toFixed(1))
    .replace("{differs}", count(result.differs)).replace("{p1}", ms(result.p01_ms))
    .replace("{p50}", ms(p50)).replace("{p99}", ms(result.p99_ms));
  bars(result.histogram);
}

function bars(counts) {
  const most = Math.max(...counts);
  const used = counts.map((each, bin) => (each ? bin : null)).filter((bin) => bin !== null);
  const rows = [];
  for (let bin = Math.max(0, used[0] - 1); bin <= Math.min(counts.length - 1, used.at(-1) + 1); bin += 1) {
    const row = document.createElement("tr");
    const edge = EDGES_MS[bin];
    const label = edge === Infinity ? `> ${EDGES_MS[bin - 1]}` : `≤ ${edge}`;
    const cells = [["th", label], ["td", count(counts[bin])], ["td", ""]].map(([kind, text]) => {
      const cell = document.createElement(kind);
      cell.textContent = text;
      return cell;
    });
    cells[0].scope = "row";
    cells[1].className = "number";
    const bar = document.createElement("div");
    bar.className = edge <= 0 ? "race-bar is-ours" : "race-bar is-theirs";
    bar.style.width = `${(counts[bin] / most) * 100}%`;
    cells[2].append(bar);
    row.append(...cells);
    rows.push(row);
  }
  part("bars").replaceChildren(...rows);
}

async function copy(text, button) {
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = texts.copied;
  setTimeout(() => (button.textContent = before), 1_500);
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-take]");
  if (!button || !last) return;
  const { told, result } = last;
  if (button.dataset.take === "text") copy(asText(result, told), button);
  else {
    const { a, b, coin, channel } = told;
    const edges = EDGES_MS.map((edge) => (edge === Infinity ? null : edge));
    copy(JSON.stringify({ coin, channel, endpoints: { a, b }, edges_ms: edges, ...result }, null, 2), button);
  }
});
