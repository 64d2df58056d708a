// Finding a coin: `/` opens it from anywhere, arrows move, Enter takes, Escape leaves.

import { search } from "./coins.js";
import { compact, price } from "./numbers.js";

const SHOWN = 40;

export class Picker {
  constructor({ dialog, input, list, empty, button, kinds, chosen, opened }) {
    Object.assign(this, { dialog, input, list, empty, kinds, chosen, opened });
    this.coins = [];
    this.found = [];
    this.at = 0;
    button.addEventListener("click", () => this.open());
    document.addEventListener("keydown", (event) => {
      const isTyping = event.target.closest("input, textarea, select, [contenteditable], dialog[open]");
      if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.open();
    });
    input.addEventListener("input", () => this.#find());
    input.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#take(option.dataset.coin);
    });
  }

  open() {
    this.input.value = "";
    this.dialog.showModal();
    this.input.focus();
    this.#find();
    this.opened?.();
    this.opened = null;
  }

  know(coins) {
    this.coins = coins;
    if (this.dialog.open) this.#find();
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      this.#mark(Math.min(Math.max(0, this.at + step), this.found.length - 1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      // A coin that the list does not know may be new: the relay will say.
      const coin = this.found[this.at]?.coin ?? this.input.value.trim();
      if (coin) this.#take(coin);
    }
  }

  #take(coin) {
    this.dialog.close();
    this.chosen(coin);
  }

  #find() {
    this.found = search(this.coins, this.input.value, SHOWN);
    this.list.replaceChildren(...this.found.map((each, place) => this.#option(each, place)));
    this.empty.hidden = this.found.length > 0;
    this.#mark(0);
  }

  #option({ coin, name, kind, volume, price: at }, place) {
    const option = document.createElement("li");
    option.id = `coin-${place}`;
    option.dataset.coin = coin;
    option.setAttribute("role", "option");
    const parts = [name, this.kinds[kind], at ? price(at) : "", volume ? `$${compact(volume)}` : ""];
    parts.forEach((text, number) => {
      const part = document.createElement("span");
      part.className = `picker-${number}`;
      part.textContent = text;
      option.append(part);
    });
    return option;
  }

  #mark(place) {
    this.at = Math.max(0, place);
    [...this.list.children].forEach((option, number) => {
      option.setAttribute("aria-selected", String(number === this.at));
      if (number === this.at) option.scrollIntoView({ block: "nearest" });
    });
    if (this.found.length) this.input.setAttribute("aria-activedescendant", `coin-${this.at}`);
    else this.input.removeAttribute("aria-activedescendant");
  }
}
