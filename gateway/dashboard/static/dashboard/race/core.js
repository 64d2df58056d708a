// The rules of a race, the same as in the script that customers run on their own hosts: which of two
// endpoints is first, and what one of them misses. Pure.

export const CHANNELS = ["trades", "bbo", "l2Book"];
/** Levels of a side that are compared; endpoints give different depths. */
const LEVELS = 5;
/** Edges of the histogram, in ms; a difference is in the first bin whose edge it does not pass. */
export const EDGES_MS = [-1000, -300, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000, Infinity];

/** What a frame tells of a coin: [{key, timeMs, content}]; nothing for acks, pongs, others. */
export function eventsOf(frame, { channel, coin }) {
  if (frame === null || typeof frame !== "object" || frame.channel !== channel) return [];
  const { data } = frame;
  if (channel === "trades") {
    return (data ?? [])
      .filter((trade) => trade.coin === coin)
      .map((trade) => ({
        key: `${trade.time}:${trade.tid}`,
        timeMs: trade.time,
        content: JSON.stringify([trade.side, trade.px, trade.sz]),
      }));
  }
  if (data === null || typeof data !== "object" || data.coin !== coin) return [];
  const sides = channel === "bbo" ? data.bbo : data.levels.map((side) => side.slice(0, LEVELS));
  const content = sides.map((side) => (Array.isArray(side) ? side.map(said) : said(side)));
  return [{ key: String(data.time), timeMs: data.time, content: JSON.stringify(content) }];
}

/** A level, whatever order its fields came in. */
function said(level) {
  return level && Object.fromEntries(Object.entries(level).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Arrivals at two endpoints, by one clock. */
export class Race {
  constructor() {
    this.heard = [new Map(), new Map()];
    this.twice = [[], []];
    /** Chain time of each side's first frame, which may be a snapshot of the past. */
    this.begunMs = [null, null];
  }

  /** Side 0 (A) or 1 (B) has got a frame at `atMs` of one monotonic clock. */
  frame(side, events, atMs) {
    if (!events.length) return;
    this.begunMs[side] ??= Math.max(...events.map((event) => event.timeMs));
    for (const event of events) {
      if (this.heard[side].has(event.key)) this.twice[side].push(event.timeMs);
      else this.heard[side].set(event.key, { atMs, event });
    }
  }

  /** Chain times, both exclusive, between which both could have told everything; or null. */
  window() {
    if (this.begunMs.includes(null)) return null;
    const low = Math.max(...this.begunMs);
    const newest = this.heard.map((heard) => {
      let most = -Infinity;
      for (const { event } of heard.values()) most = Math.max(most, event.timeMs);
      return most;
    });
    const high = Math.min(...newest);
    return high > low ? [low, high] : null;
  }

  /** The outcome so far. Differences are A's arrival less B's: below 0, A was first. */
  result() {
    const [low, high] = this.window() ?? [0, 0];
    const within = (timeMs) => low < timeMs && timeMs < high;
    const [a, b] = this.heard.map((heard) => new Map([...heard].filter(([, got]) => within(got.event.timeMs))));
    const both = [...a.keys()].filter((key) => b.has(key));
    const differences = both.map((key) => a.get(key).atMs - b.get(key).atMs).sort((x, y) => x - y);
    const side = (mine, theirs, number, leads) => ({
      events: mine.size,
      first: leads.length,
      missing: [...theirs.keys()].filter((key) => !mine.has(key)).length,
      twice: this.twice[number].filter(within).length,
      lead_p50_ms: percentile(leads, 50),
      lead_p99_ms: percentile(leads, 99),
    });
    const leadsA = differences.filter((each) => each < 0).map((each) => -each).reverse();
    const leadsB = differences.filter((each) => each > 0);
    return {
      compared: both.length,
      seconds: (high - low) / 1000,
      a: side(a, b, 0, leadsA),
      b: side(b, a, 1, leadsB),
      differs: both.filter((key) => a.get(key).event.content !== b.get(key).event.content).length,
      p01_ms: percentile(differences, 1),
      p50_ms: percentile(differences, 50),
      p99_ms: percentile(differences, 99),
      histogram: histogram(differences),
    };
  }
}

/** The value that so many percent do not exceed (nearest rank); null of nothing. */
export function percentile(ordered, percent) {
  if (!ordered.length) return null;
  const rank = Math.ceil((percent / 100) * ordered.length);
  return Math.round(ordered[Math.max(0, rank - 1)] * 1_000) / 1_000;
}

/** How many values are in each bin of `EDGES_MS`. */
export function histogram(values) {
  const counts = EDGES_MS.map(() => 0);
  for (const value of values) counts[EDGES_MS.findIndex((edge) => value <= edge)] += 1;
  return counts;
}

/** An endpoint without what may be a key in its address. Throws TypeError for what is none. */
export function shown(url) {
  const { protocol, host } = new URL(url);
  if (protocol !== "wss:" && protocol !== "ws:") throw new TypeError("no WebSocket");
  return `${protocol}//${host}`;
}

/** A result as lines of text, to be pasted somewhere. */
export function asText(result, { a, b, channel, coin }) {
  const ms = (value) => (value === null ? "-" : value.toFixed(2));
  const row = (name, left, right) => name.padEnd(14) + String(left).padStart(12) + String(right).padStart(12);
  const lines = [
    `A  ${a}`, `B  ${b}`, `${channel} of ${coin}`, "",
    row("", "A", "B"),
    ...["events", "first", "missing", "twice"].map((name) => row(name, result.a[name], result.b[name])),
    row("lead p50, ms", ms(result.a.lead_p50_ms), ms(result.b.lead_p50_ms)),
    row("lead p99, ms", ms(result.a.lead_p99_ms), ms(result.b.lead_p99_ms)),
    "",
    `${result.compared} events at both in ${result.seconds.toFixed(1)} s of chain time, ${result.differs} of them with other content`,
    `A - B: p1 ${ms(result.p01_ms)}, p50 ${ms(result.p50_ms)}, p99 ${ms(result.p99_ms)} ms (below 0: A was first)`,
  ];
  return `${lines.join("\n")}\n`;
}
