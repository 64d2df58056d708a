// How the feed does, from its own frames: nothing here is guessed. Pure.

const RATE_OVER_MS = 3_000;

export class Health {
  constructor() {
    this.gaps = 0;
    /** Feeds ("" is all of them) that the relay calls stale. */
    this.stale = new Set();
    this.forget();
  }

  /** Another coin: figures begin anew, gaps are of the page. */
  forget() {
    this.book = { seq: 0, atMs: 0, blockMs: 0, hopMs: null };
    this.came = [];
    for (const name of [...this.stale]) if (name) this.stale.delete(name);
  }

  /** Whether the book may be old: it, or everything. */
  get isStale() {
    return this.stale.has("") || this.stale.has("book");
  }

  frame(name, frame, atMs) {
    this.came.push(atMs);
    if (this.came.length > 400) this.came.splice(0, 200);
    if (name !== "book") return;
    const { block = 0, in: arrived = 0, out = 0 } = frame.t ?? {};
    this.book = {
      seq: frame.seq,
      atMs,
      blockMs: block / 1e6 || (frame.snapshot ? 0 : frame.data.time),
      hopMs: arrived && out ? Math.max(0, (out - arrived) / 1e6) : null,
    };
  }

  /** Frames a second, of late. */
  rate(nowMs) {
    this.came = this.came.filter((at) => nowMs - at < RATE_OVER_MS);
    return this.came.length / (RATE_OVER_MS / 1_000);
  }
}
