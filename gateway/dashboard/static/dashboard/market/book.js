// One coin's order book as the feed tells it, level by level. Pure: no clock, no page.

const BIDS = 0;
const CHECKED_LEVELS = 20;

/** Frames of `l2Diff` (numbered changes) or `l2Book` (whole books) in; the window out. */
export class Book {
  constructor() {
    this.clear();
  }

  /** Nothing is known: before the first frame, and after one that did not follow. */
  clear() {
    /** Bids and asks, best first: {px, sz, n, price, size}. */
    this.sides = [[], []];
    this.height = null;
    this.timeMs = 0;
    this.seq = 0;
    this.isWhole = false;
  }

  /**
   * "taken", or why not: "broken" (it does not follow the one before), "wrong" (its checksum is not
   * this copy's). After either, the book is empty until the next snapshot.
   */
  take(frame) {
    const { data } = frame;
    const isDiff = frame.channel === "l2Diff";
    if (isDiff && !frame.snapshot) {
      if (!this.isWhole || frame.prevSeq !== this.seq) return this.#lose("broken");
      data.levels.forEach((levels, side) => levels.forEach((level) => this.#put(side, level)));
    } else {
      this.sides = data.levels.map((levels) => levels.map(parsed));
    }
    this.isWhole = true;
    this.seq = frame.seq ?? 0;
    this.timeMs = data.time;
    if (data.height !== undefined) this.height = data.height;
    if (data.checksum !== undefined && data.checksum !== this.checksum()) return this.#lose("wrong");
    return "taken";
  }

  /** {bid, ask, mid, spread, spreadBps}, or null while a side is empty. */
  touch() {
    const [[bid], [ask]] = this.sides;
    if (!bid || !ask) return null;
    const mid = (bid.price + ask.price) / 2;
    const spread = ask.price - bid.price;
    return { bid, ask, mid, spread, spreadBps: (spread / mid) * 1e4 };
  }

  /** The best `count` levels of a side, each with `total`: the sizes up to and with it. */
  ladder(side, count) {
    let total = 0;
    return this.sides[side].slice(0, count).map((level) => ({ ...level, total: (total += level.size) }));
  }

  /** Which share of the sizes within `count` levels are bids; null of nothing. */
  balance(count) {
    const [bids, asks] = this.sides.map((side) =>
      side.slice(0, count).reduce((sum, level) => sum + level.size, 0),
    );
    return bids + asks > 0 ? bids / (bids + asks) : null;
  }

  /** CRC-32 of the best 20 levels of both sides, as the relay writes it down. */
  checksum() {
    const text = this.sides
      .map((side) => side.slice(0, CHECKED_LEVELS).map(({ px, sz }) => `${px}:${sz}`).join(","))
      .join("|");
    return crc32(text);
  }

  #lose(why) {
    this.clear();
    return why;
  }

  #put(side, level) {
    const levels = this.sides[side];
    const price = Number(level.px);
    let low = 0;
    let high = levels.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const isBefore = side === BIDS ? levels[middle].price > price : levels[middle].price < price;
      if (isBefore) low = middle + 1;
      else high = middle;
    }
    const isThere = low < levels.length && levels[low].price === price;
    if (level.n === 0) {
      if (isThere) levels.splice(low, 1);
    } else {
      levels.splice(low, isThere ? 1 : 0, parsed(level));
    }
  }
}

function parsed({ px, sz, n }) {
  return { px, sz, n, price: Number(px), size: Number(sz) };
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** As zlib's, of ASCII. */
export function crc32(text) {
  let crc = 0xffffffff;
  for (let at = 0; at < text.length; at += 1) {
    crc = TABLE[(crc ^ text.charCodeAt(at)) & 0xff] ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
