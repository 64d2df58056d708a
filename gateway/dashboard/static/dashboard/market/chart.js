// Candles with their volume, newest to the right; the pointer or the arrow keys read one.

import { Surface, ticks } from "./canvas.js";
import { Candles, INTERVALS_MS } from "./candles.js";
import { compact, decimals, price } from "./numbers.js";

const CANDLE_PX = 8;
const AXIS_PX = 64;
const FOOT_PX = 20;
const VOLUME_SHARE = 0.16;
/** Candles from one label of the time axis to the next, so that they fall on round times. */
const LABEL_EVERY = { "1m": 15, "5m": 12, "15m": 16, "1h": 12, "4h": 12, "1d": 14 };

export class Chart {
  constructor(canvas, readout, redraw) {
    this.surface = new Surface(canvas, redraw);
    this.readout = readout;
    this.at = null;
    const point = (x) => {
      this.at = x;
      redraw();
    };
    canvas.addEventListener("pointermove", (event) => point(event.offsetX));
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("blur", () => point(null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -CANDLE_PX, ArrowRight: CANDLE_PX }[event.key];
      if (!step) return;
      event.preventDefault();
      point((this.at ?? this.surface.width - AXIS_PX - CANDLE_PX / 2) + step);
    });
  }

  draw(candles) {
    const { surface, at } = this;
    const context = surface.begin();
    if (!context) return;
    const { width, height, colours } = surface;
    const [right, bottom] = [width - AXIS_PX, height - FOOT_PX];
    const rows = candles.rows.slice(-Math.floor(right / CANDLE_PX));
    const range = Candles.range(rows);
    if (!range) return;
    const room = (range.high - range.low) * 0.08 || range.high * 0.001 || 1;
    const [low, high] = [range.low - room, range.high + room];
    const chartBottom = bottom * (1 - VOLUME_SHARE);
    const y = (value) => 6 + ((high - value) / (high - low)) * (chartBottom - 6);
    const x = (place) => right - (rows.length - place - 0.5) * CANDLE_PX;
    const digits = Math.max(decimals(high), high - low < 10 ? 2 : 0);
    const label = (value) => price(value.toFixed(Math.min(8, digits)));

    for (const value of ticks(low, high, chartBottom / 56)) {
      surface.line(0, y(value), right, y(value));
      surface.text(label(value), right + 6, y(value));
    }
    rows.forEach((row, place) => {
      const number = Math.round(row.t / INTERVALS_MS[candles.interval]);
      if (number % LABEL_EVERY[candles.interval] === 0 && x(place) > 20) surface.text(clock(row.t, candles.interval), x(place), height - FOOT_PX / 2, { align: "center" });
    });
    rows.forEach((row, place) => {
      const isUp = row.c >= row.o;
      const middle = x(place);
      context.fillStyle = isUp ? colours.up : colours.down;
      const tall = (row.v / (range.volume || 1)) * (bottom - chartBottom - 4);
      context.globalAlpha = 0.28;
      context.fillRect(middle - 3, bottom - tall, 6, tall);
      context.globalAlpha = 1;
      context.fillRect(Math.round(middle - 0.5), y(row.h), 1, Math.max(1, y(row.l) - y(row.h)));
      const [top, end] = [y(Math.max(row.o, row.c)), y(Math.min(row.o, row.c))];
      context.fillRect(middle - 3, top, 6, Math.max(1, end - top));
    });

    const last = rows.at(-1);
    const colour = last.c >= last.o ? colours.up : colours.down;
    surface.line(0, y(last.c), right, y(last.c), { colour, dash: [2, 3] });
    surface.tag(label(last.c), y(last.c), colour);

    const place = at === null ? null : rows.length - 1 - Math.floor((right - at) / CANDLE_PX);
    const shown = rows[place] ?? last;
    if (rows[place]) surface.line(x(place), 0, x(place), bottom, { colour: colours.text, dash: [3, 3] });
    const told = `O ${label(shown.o)}  H ${label(shown.h)}  L ${label(shown.l)}  C ${label(shown.c)}  V ${compact(shown.v)}`;
    const text = rows[place] ? `${clock(shown.t, candles.interval, true)}  ${told}` : told;
    if (this.readout.textContent !== text) this.readout.textContent = text;
  }
}

/** A candle's beginning, in UTC like everything here. */
function clock(ms, interval, isWhole = false) {
  const iso = new Date(ms).toISOString();
  const [day, time] = [iso.slice(5, 10), iso.slice(11, 16)];
  if (isWhole) return `${day} ${time}`;
  return interval === "1d" || interval === "4h" ? day : time;
}
