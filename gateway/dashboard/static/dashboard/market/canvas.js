// A canvas as sharp as its screen, in the theme's colours.

/** Watches its own size; `draw(context, width, height, colours)` is called when `paint` is. */
export class Surface {
  constructor(canvas, resized) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.width = this.height = 0;
    new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      const scale = devicePixelRatio || 1;
      [this.width, this.height] = [Math.floor(width), Math.floor(height)];
      canvas.width = Math.round(this.width * scale);
      canvas.height = Math.round(this.height * scale);
      this.context.setTransform(scale, 0, 0, scale, 0, 0);
      resized();
    }).observe(canvas);
    this.themed();
    const changed = () => (this.themed(), resized());
    document.addEventListener("theme", changed);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  }

  themed() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--color-${name}`).trim();
    this.colours = {
      up: of("success"), down: of("error"), text: of("base-content"), line: of("base-300"),
      ground: of("base-100"), accent: of("primary"),
    };
    this.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  }

  /** Cleared and ready, or null where there is no room. */
  begin() {
    if (this.width < 40 || this.height < 40) return null;
    this.context.clearRect(0, 0, this.width, this.height);
    this.context.font = this.font;
    this.context.globalAlpha = 1;
    return this.context;
  }

  line(x1, y1, x2, y2, { colour = this.colours.line, dash = [] } = {}) {
    const { context } = this;
    context.strokeStyle = colour;
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
    context.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
    context.stroke();
    context.setLineDash([]);
  }

  text(text, x, y, { align = "left", alpha = 0.72, colour = this.colours.text } = {}) {
    const { context } = this;
    context.globalAlpha = alpha;
    context.fillStyle = colour;
    context.textAlign = align;
    context.textBaseline = "middle";
    context.fillText(text, x, y);
    context.globalAlpha = 1;
  }

  /** A value in a filled box at the right edge. */
  tag(text, y, colour) {
    const { context } = this;
    const wide = Math.ceil(context.measureText(text).width) + 10;
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(this.width - wide, y - 9, wide, 18, 3);
    context.fill();
    this.text(text, this.width - 5, y, { align: "right", alpha: 1, colour: this.colours.ground });
  }
}

/** About `count` round values within low and high. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((each) => each * power >= rough) ?? 10);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
  return found;
}
