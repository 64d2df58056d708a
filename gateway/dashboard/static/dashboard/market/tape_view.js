// The newest lines of the tape, in rows made once.

import { price, size } from "./numbers.js";

export class TapeView {
  constructor(into, rows) {
    this.rows = Array.from({ length: rows }, () => {
      const made = document.createElement("li");
      const cells = ["tape-px", "tape-sz", "tape-at"].map((name) => {
        const cell = document.createElement("span");
        cell.className = name;
        return cell;
      });
      made.append(...cells);
      return { made, cells, line: null };
    });
    into.replaceChildren(...this.rows.map((each) => each.made));
  }

  draw(tape) {
    this.rows.forEach((row, place) => {
      const line = tape.lines[place] ?? null;
      if (row.line === line && line?.kind !== "event") return;
      row.line = line;
      const { made, cells } = row;
      made.className = line ? `tape-line is-${line.kind === "trade" ? (line.isBuy ? "buy" : "sell") : line.level}` : "tape-line";
      const at = line ? new Date(line.atMs).toISOString().slice(11, 23) : "";
      if (!line) cells.forEach((cell) => (cell.textContent = ""));
      else if (line.kind === "trade") {
        cells[0].textContent = price(line.px);
        cells[1].textContent = size(line.size);
        cells[2].textContent = at;
        made.toggleAttribute("data-replay", line.isReplay);
        // A big one is seen without reading: its ground is as full as it is big.
        const share = Math.sqrt(line.size / (tape.biggest || 1));
        made.style.setProperty("--share", `${Math.round(share * 100)}%`);
      } else {
        cells[0].textContent = line.text;
        cells[1].textContent = "";
        cells[2].textContent = at.slice(0, 8);
        made.style.removeProperty("--share");
      }
    });
  }
}
