// Candles of one coin and interval, oldest first, of bounded length. Pure.

export const MAX_CANDLES = 500;
export const INTERVALS_MS = {
  "1m": 60_000,
  "5m": 300_000,
  "15m": 900_000,
  "1h": 3_600_000,
  "4h": 14_400_000,
  "1d": 86_400_000,
};

export class Candles {
  constructor(interval, max = MAX_CANDLES) {
    this.interval = interval;
    this.max = max;
    this.rows = [];
  }

  /** Where history has to begin to fill the chart, in ms. */
  begin(nowMs) {
    return nowMs - this.max * INTERVALS_MS[this.interval];
  }

  /** A list of candles, or one that is news: the same beginning is the same candle, and what comes
   * later is truer. History that comes after news does not replace it. */
  take(candles, { isHistory = false } = {}) {
    const known = new Map(this.rows.map((row) => [row.t, row]));
    for (const each of candles) {
      if (each.i !== this.interval || (isHistory && known.get(each.t)?.n >= each.n)) continue;
      known.set(each.t, {
        t: each.t,
        o: Number(each.o),
        h: Number(each.h),
        l: Number(each.l),
        c: Number(each.c),
        v: Number(each.v),
        n: each.n,
      });
    }
    const rows = [...known.values()];
    if (candles.length > 1 || rows.length !== this.rows.length) rows.sort((a, b) => a.t - b.t);
    this.rows = rows.slice(-this.max);
  }

  /** {low, high, volume} of rows, null of none. */
  static range(rows) {
    if (!rows.length) return null;
    return rows.reduce(
      (found, row) => ({
        low: Math.min(found.low, row.l),
        high: Math.max(found.high, row.h),
        volume: Math.max(found.volume, row.v),
      }),
      { low: Infinity, high: -Infinity, volume: 0 },
    );
  }
}
