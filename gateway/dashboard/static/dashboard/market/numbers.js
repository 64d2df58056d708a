// Numbers as traders read them. Pure.

const counts = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

/** 1100000720 → "1,100,000,720". */
export const count = (value) => counts.format(value);
/** 139603640.3 → "140M". */
export const compact = (value) => short.format(value);

/** A price string of the exchange with thousands apart: "84073.0" → "84,073"; with `digits` it has
 * so many decimals. */
export function price(text, digits = null) {
  const [whole, fraction = ""] = String(text).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  if (digits !== null) return digits ? `${grouped}.${fraction.slice(0, digits).padEnd(digits, "0")}` : grouped;
  return fraction && !/^0+$/.test(fraction) ? `${grouped}.${fraction}` : grouped;
}

/** Decimals that tell apart neighbouring values around `value`, five significant digits. */
export function decimals(value) {
  return value > 0 ? Math.min(8, Math.max(0, 4 - Math.floor(Math.log10(value)))) : 2;
}

/** A size in about six characters. */
export function size(value) {
  if (value >= 100_000) return compact(value);
  if (value >= 1_000) return value.toFixed(1);
  if (value >= 1) return value.toFixed(3);
  return value.toFixed(5);
}

/** 312 → "312 ms", 2345 → "2.3 s", 95000 → "95 s", 400000 → "6.7 min". */
export function age(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${ms < 10_000 ? (ms / 1_000).toFixed(1) : Math.round(ms / 1_000)} s`;
  return ms < 7_200_000 ? `${(ms / 60_000).toFixed(1)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}
