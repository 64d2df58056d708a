// The relay's socket for pages: opened with a dashboard token, which is renewed before it ends, and
// opened again when it is cut, with everything that was subscribed to, from where it stopped.
//
//   const stream = relay.openStream({ tokenUrl, onFrame, onState });
//   const id = stream.subscribe({ type: "trades", coin: "BTC" });
//   stream.unsubscribe(id); stream.close();
//
// `onFrame(frame)` gets each frame of the relay dialect (`docs/relay-dialect.md`); `onState(state)`
// one of connecting, live, offline, signed-out.
"use strict";

(() => {
  const RENEW_BEFORE_S = 60;
  const RESUME_WITHIN_MS = 30000;
  const PING_MS = 30000;
  const WAIT_MS = [500, 1000, 2000, 5000, 10000];

  class Stream {
    #options;
    #socket = null;
    #wanted = new Map(); // id -> { subscription, options, cursor, at }
    #nextId = 1;
    #failures = 0;
    #timers = { renew: 0, again: 0, ping: 0 };
    #isClosed = false;

    constructor(options) {
      this.#options = options;
      this.#open();
    }

    subscribe(subscription, options = {}) {
      const id = this.#nextId++;
      this.#wanted.set(id, { subscription, options, cursor: "", at: 0 });
      this.#ask(this.#socket, id);
      return id;
    }

    unsubscribe(id) {
      if (this.#wanted.delete(id)) this.#send(this.#socket, { method: "unsubscribe", id });
    }

    close() {
      this.#isClosed = true;
      Object.values(this.#timers).forEach(clearTimeout);
      this.#socket?.close(1000);
    }

    async #open() {
      if (!this.#socket) this.#options.onState("connecting");
      let told;
      try {
        const answer = await fetch(this.#options.tokenUrl, {
          method: "POST",
          headers: JSON.parse(document.body.getAttribute("hx-headers")),
          redirect: "manual",
        });
        if (answer.type === "opaqueredirect" || [401, 403, 404].includes(answer.status)) {
          this.#options.onState("signed-out");
          return;
        }
        if (!answer.ok) throw new Error(String(answer.status));
        told = await answer.json();
      } catch {
        this.#again();
        return;
      }
      if (this.#isClosed) return;
      const socket = new WebSocket(told.ws, ["hlrelay.v1", `hlrelay.key.${told.token}`]);
      socket.onopen = () => this.#opened(socket, told.expires_in);
      socket.onmessage = (event) => socket === this.#socket && this.#receive(event.data);
      socket.onclose = () => {
        const wasOurs = socket === this.#socket || !this.#socket;
        if (socket === this.#socket) this.#socket = null;
        if (wasOurs && !this.#isClosed) this.#again();
      };
    }

    #opened(socket, expiresInS) {
      const before = this.#socket;
      this.#socket = socket;
      this.#failures = 0;
      this.#options.onState("live");
      for (const id of this.#wanted.keys()) this.#ask(socket, id);
      before?.close(1000);
      clearTimeout(this.#timers.renew);
      const renewInS = Math.max(expiresInS - RENEW_BEFORE_S, expiresInS / 2);
      this.#timers.renew = setTimeout(() => this.#open(), renewInS * 1000);
      clearInterval(this.#timers.ping);
      this.#timers.ping = setInterval(() => this.#send(this.#socket, { method: "ping" }), PING_MS);
    }

    #again() {
      this.#options.onState("offline");
      clearTimeout(this.#timers.again);
      const waitMs = WAIT_MS[Math.min(this.#failures++, WAIT_MS.length - 1)];
      this.#timers.again = setTimeout(() => this.#open(), waitMs * (0.75 + Math.random() / 2));
    }

    #ask(socket, id) {
      const { subscription, options, cursor, at } = this.#wanted.get(id);
      const ask = { method: "subscribe", id, subscription, onSlow: "skip", ...options };
      if (cursor && Date.now() - at < RESUME_WITHIN_MS) ask.from = cursor;
      this.#send(socket, ask);
    }

    #send(socket, message) {
      if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
    }

    #receive(text) {
      const frame = JSON.parse(text);
      if (frame.channel === "pong") return;
      const wanted = this.#wanted.get(frame.id ?? frame.data?.id);
      if (wanted && frame.cursor) {
        wanted.cursor = frame.cursor;
        wanted.at = Date.now();
      }
      if (wanted && frame.data?.type === "resumeFailed") wanted.cursor = "";
      this.#options.onFrame(frame, text);
    }
  }

  window.relay = Object.assign(window.relay || {}, { openStream: (options) => new Stream(options) });
})();
