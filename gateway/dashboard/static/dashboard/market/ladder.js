// The rows of the ladder: made once, and only what changed is written.

import { price } from "./numbers.js";

const CELLS = ["px", "sz", "total"];

function row(role) {
  const made = document.createElement("div");
  made.className = "ladder-row";
  made.setAttribute("role", "row");
  const bar = document.createElement("span");
  bar.className = "ladder-bar";
  bar.setAttribute("role", "presentation");
  const cells = CELLS.map((name) => {
    const cell = document.createElement("span");
    cell.className = `ladder-${name}`;
    cell.setAttribute("role", role);
    return cell;
  });
  made.append(bar, ...cells);
  return { made, bar, cells, told: ["", "", ""], share: -1 };
}

export class Ladder {
  /** `asks` and `bids` are where the rows go: the best ask lowest, the best bid highest. */
  constructor({ asks, bids, rows }) {
    this.rows = rows;
    this.sides = [bids, asks].map((into, side) => {
      const made = Array.from({ length: rows }, () => row("cell"));
      into.replaceChildren(...(side ? [...made].reverse() : made).map((each) => each.made));
      return made;
    });
  }

  draw(book) {
    const sides = this.sides.map((_, side) => book.ladder(side, this.rows));
    const most = Math.max(...sides.map((levels) => levels.at(-1)?.total ?? 0));
    // A column has as many decimals as its longest price, and as its sums have room for.
    const digits = Math.max(0, ...sides.flat().map(({ px }) => decimalsOf(px)));
    const places = most >= 10_000 ? 0 : most >= 1_000 ? 1 : most >= 100 ? 2 : most >= 10 ? 3 : 5;
    this.sides.forEach((rows, side) =>
      rows.forEach((each, place) => {
        const level = sides[side][place];
        const told = level ? [price(level.px, digits), level.size.toFixed(places), level.total.toFixed(places)] : ["", "", ""];
        told.forEach((text, at) => {
          if (each.told[at] === text) return;
          each.told[at] = text;
          each.cells[at].textContent = text;
        });
        const share = level ? Math.round((level.total / most) * 1_000) / 1_000 : 0;
        if (share !== each.share) {
          each.share = share;
          each.bar.style.transform = `scaleX(${share})`;
        }
      }),
    );
  }
}

/** "38.50" → 2, "84073.0" → 0. */
function decimalsOf(px) {
  const fraction = px.split(".")[1] ?? "";
  return fraction.replace(/0+$/, "").length;
}
