// Copy buttons, search, and the menu of narrow screens. The pages work without it.
"use strict";

(() => {
  const template = document.getElementById("copy-button");
  for (const block of document.querySelectorAll(".pub-code")) {
    if (!template || !navigator.clipboard) break;
    const button = template.content.firstElementChild.cloneNode(true);
    const label = button.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      button.textContent = button.dataset.done;
      setTimeout(() => { button.textContent = label; }, 1500);
    });
    block.append(button);
  }

  const menu = document.querySelector(".docs-menu");
  if (menu && window.matchMedia("(max-width: 60rem)").matches) menu.open = false;

  const input = document.getElementById("docs-search");
  const found = document.getElementById("docs-found");
  if (!input || !found) return;
  let loading = null;

  const read = async () => {
    const answer = await fetch(input.dataset.index);
    const rows = await answer.json();
    return rows.map((row) => ({ row, text: row.slice(1).join(" \n").toLowerCase() }));
  };
  const load = () => {
    loading ??= read().catch(() => { loading = null; return []; });
    return loading;
  };

  // A word in a heading counts most, a heading that is the question more; every word must be there.
  const score = (entry, words) => {
    const [, page, heading, text] = entry.row.map((cell) => cell.toLowerCase());
    let sum = heading === words.join(" ") ? 20 : 0;
    for (const word of words) {
      if (!entry.text.includes(word)) return 0;
      sum += heading.includes(word) ? 8 : page.includes(word) ? 4 : text.includes(word) ? 1 : 0;
    }
    return sum;
  };

  const show = async () => {
    const asked = input.value;
    const words = asked.toLowerCase().split(/\s+/).filter(Boolean);
    found.hidden = words.length === 0;
    if (found.hidden) return;
    const index = await load();
    if (input.value !== asked) return; // a newer question is under way
    const best = index
      .map((entry) => [score(entry, words), entry.row])
      .filter(([points]) => points > 0)
      .sort((a, b) => b[0] - a[0])
      .slice(0, 10);
    found.replaceChildren();
    for (const [, [url, page, heading]] of best) {
      const link = document.createElement("a");
      link.href = url;
      link.textContent = heading === page ? page : `${page}: ${heading}`;
      const item = document.createElement("li");
      item.append(link);
      found.append(item);
    }
    if (!best.length) {
      const item = document.createElement("li");
      item.textContent = input.dataset.none;
      found.append(item);
    }
  };

  input.addEventListener("focus", load, { once: true });
  input.addEventListener("input", show);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      input.value = "";
      found.hidden = true;
    } else if (event.key === "Enter") {
      show().then(() => found.querySelector("a")?.click());
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select")) {
      event.preventDefault();
      input.focus();
    }
  });
})();
