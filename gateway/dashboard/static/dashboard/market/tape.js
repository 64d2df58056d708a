// Trades and what happened to the feed, newest first, of bounded length. Pure.

export const MAX_LINES = 200;

/** Lines are {kind: "trade", …} or {kind: "event", level, text, atMs}. */
export class Tape {
  constructor(max = MAX_LINES) {
    this.max = max;
    this.clear();
  }

  clear() {
    this.lines = [];
    this.count = 0;
    this.biggest = 0;
    this.last = null;
  }

  /** The trades of one frame, oldest first; what came before a snapshot is in it. */
  take(frame) {
    if (frame.snapshot) this.lines = this.lines.filter((line) => line.kind === "event");
    for (const trade of frame.data) {
      const line = {
        kind: "trade",
        px: trade.px,
        sz: trade.sz,
        size: Number(trade.sz),
        isBuy: trade.side === "B",
        atMs: trade.time,
        isReplay: Boolean(frame.replay),
      };
      this.last = line;
      this.count += 1;
      this.#push(line);
    }
    this.biggest = this.lines.reduce((most, line) => Math.max(most, line.size ?? 0), 0);
  }

  /** Something to know at its place among the trades; the same twice in a row is one line. */
  event(level, text, atMs) {
    const [newest] = this.lines;
    if (newest?.kind === "event" && newest.text === text) newest.atMs = atMs;
    else this.#push({ kind: "event", level, text, atMs });
  }

  #push(line) {
    this.lines.unshift(line);
    if (this.lines.length > this.max) this.lines.length = this.max;
  }
}
