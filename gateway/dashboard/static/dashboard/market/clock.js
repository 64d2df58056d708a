// How far this computer's clock is from the relay's, from what comes anyway. Pure.

/**
 * A frame that left at `outMs` (the relay's clock) and came at `atMs` (ours) says: offset + way. The
 * quickest of them, less half of the quickest ping, is the offset; without it, a wrong clock would
 * pass for age.
 */
export class Clock {
  #quickest = Infinity;
  #ping = Infinity;
  #asked = null;

  frame(outMs, atMs) {
    if (outMs > 0) this.#quickest = Math.min(this.#quickest, atMs - outMs);
  }

  asked(atMs) {
    this.#asked = atMs;
  }

  answered(atMs) {
    if (this.#asked !== null) this.#ping = Math.min(this.#ping, atMs - this.#asked);
    this.#asked = null;
  }

  get offsetMs() {
    if (this.#quickest === Infinity) return 0;
    return this.#quickest - (this.#ping === Infinity ? 0 : this.#ping / 2);
  }

  /** How old something of the relay's time is, never below 0. */
  age(whenMs, nowMs) {
    return Math.max(0, nowMs - this.offsetMs - whenMs);
  }
}
