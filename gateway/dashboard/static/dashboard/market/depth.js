// What stands within the window, summed from the middle outwards.

import { Surface } from "./canvas.js";
import { compact, decimals, price } from "./numbers.js";

const FOOT_PX = 20;

export class Depth {
  constructor(canvas, redraw) {
    this.surface = new Surface(canvas, redraw);
    this.at = null;
    canvas.addEventListener("pointermove", (event) => ((this.at = event.offsetX), redraw()));
    canvas.addEventListener("pointerleave", () => ((this.at = null), redraw()));
  }

  draw(book, levels) {
    const { surface } = this;
    const context = surface.begin();
    const touch = book.touch();
    if (!context || !touch) return;
    const { width, height, colours } = surface;
    const bottom = height - FOOT_PX;
    const sides = [book.ladder(0, levels), book.ladder(1, levels)];
    const far = Math.max(...sides.map((side) => Math.abs(side.at(-1).price - touch.mid)));
    const most = Math.max(...sides.map((side) => side.at(-1).total));
    const x = (value) => width / 2 + ((value - touch.mid) / far) * (width / 2);
    const y = (total) => bottom - (total / most) * (bottom - 14);
    sides.forEach((side, number) => {
      const colour = number ? colours.down : colours.up;
      const edge = number ? width : 0;
      const steps = new Path2D();
      steps.moveTo(x(side[0].price), bottom);
      let total = 0;
      for (const level of side) {
        steps.lineTo(x(level.price), y(total));
        steps.lineTo(x(level.price), y((total = level.total)));
      }
      steps.lineTo(edge, y(total));
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.stroke(steps);
      context.lineWidth = 1;
      steps.lineTo(edge, bottom);
      steps.closePath();
      context.globalAlpha = 0.16;
      context.fillStyle = colour;
      context.fill(steps);
      context.globalAlpha = 1;
    });
    const label = (value) => price(value.toFixed(Math.min(8, decimals(value) + 1)));
    surface.line(0, bottom, width, bottom);
    surface.text(label(touch.mid - far), 4, height - FOOT_PX / 2);
    surface.text(label(touch.mid), width / 2, height - FOOT_PX / 2, { align: "center" });
    surface.text(label(touch.mid + far), width - 4, height - FOOT_PX / 2, { align: "right" });
    if (this.at === null) return;
    const value = touch.mid + ((this.at - width / 2) / (width / 2)) * far;
    const number = value > touch.mid ? 1 : 0;
    const within = sides[number].filter((level) => (number ? level.price <= value : level.price >= value));
    const total = within.at(-1)?.total ?? 0;
    surface.line(this.at, 8, this.at, bottom, { colour: colours.text, dash: [3, 3] });
    const bps = ((value - touch.mid) / touch.mid) * 1e4;
    const text = `${label(value)} · ${compact(total)} · ${bps > 0 ? "+" : ""}${bps.toFixed(1)} bps`;
    surface.text(text, this.at + (number ? -8 : 8), 12, { align: number ? "right" : "left", alpha: 1 });
  }
}
