// The live console: what the socket says, line by line, as fast as the screen can show it.
"use strict";

document.querySelectorAll("[data-console]").forEach((root) => {
  const KEPT = 200;
  const part = (name) => root.querySelector(`[data-console-${name}]`);
  const [form, out, state, pause] = ["form", "out", "state", "pause"].map(part);
  let lines = [];
  let waiting = [];
  let count = 0;
  let recent = 0;
  let isPaused = false;
  let isDrawing = false;
  let id = null;
  let stream = null;

  function draw() {
    isDrawing = false;
    lines = lines.concat(waiting).slice(-KEPT);
    waiting = [];
    out.textContent = lines.join("\n");
    out.scrollTop = out.scrollHeight;
    part("count").textContent = count.toLocaleString();
  }

  function show(frame, text) {
    count += 1;
    recent += 1;
    if (frame.t?.block) part("age").textContent = `${Math.max(0, Math.round(Date.now() - frame.t.block / 1e6)).toLocaleString()} ms`;
    if (isPaused) return;
    waiting.push(text);
    if (waiting.length > KEPT) waiting = waiting.slice(-KEPT);
    if (!isDrawing) {
      isDrawing = true;
      requestAnimationFrame(draw);
    }
  }

  function subscribe() {
    if (id !== null) stream.unsubscribe(id);
    const { channel, coin } = form.elements;
    const asked = { type: channel.value, coin: coin.value.trim() };
    if (asked.type === "candle") asked.interval = "1m";
    id = stream.subscribe(asked);
  }

  // Its own clicks only: another script's handler for forms must not disable its button.
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    subscribe();
  });
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.querySelector("span").textContent = isPaused ? root.dataset.resume : root.dataset.pause;
  });
  part("clear").addEventListener("click", () => {
    lines = [];
    waiting = [];
    count = 0;
    draw();
  });
  setInterval(() => {
    part("rate").textContent = recent.toLocaleString();
    recent = 0;
  }, 1000);

  stream = relay.openStream({
    tokenUrl: root.dataset.tokenUrl,
    onFrame: show,
    onState: (name) => {
      state.textContent = root.dataset[name.replace(/-(.)/, (_, letter) => letter.toUpperCase())];
      root.dataset.state = name;
    },
  });
  subscribe();
});
