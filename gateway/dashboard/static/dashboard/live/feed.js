// The relay's own WebSocket in its relay dialect, kept open: it reconnects, goes on at the last
// cursor, and says what it does. Knows no page: sockets, tokens and timers are given to it.

export const PROTOCOL = "hlrelay.v1";
const KEY_PROTOCOL = "hlrelay.key.";
const PING_EVERY_MS = 10_000;
/** Nothing at all for so long, pongs neither: the line is dead, whatever the browser believes. */
const SILENT_MS = 25_000;
const WAITS_MS = [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000];
/** A new token is fetched so long before the old one ends. */
const RENEW_BEFORE_MS = 60_000;
const WENT_WELL_MS = 5_000;

/** Cursors older than this are not gone on from: it would be a long replay of old news. */
export const MAX_RESUME_MS = 120_000;

/**
 * `token()` resolves to {token, ws, expires_in}, or rejects; with `isFinal` on the error nothing is
 * tried again. `on` has `frame(name, frame)`, `event(name, data)`, `state(state, detail)`:
 * connecting, live, waiting ({inMs, code}), paused, refused ({why}).
 */
export class Feed {
  constructor({ token, on, open = (url, protocols) => new WebSocket(url, protocols), now = Date.now,
    later = (act, ms) => setTimeout(act, ms), never = (timer) => clearTimeout(timer) }) {
    Object.assign(this, { token, on, open, now, later, never });
    this.state = "paused";
    this.topics = new Map();
    this.ids = new Map();
    this.nextId = 1;
    this.tries = 0;
    this.attempt = 0;
    this.timers = new Map();
    this.socket = null;
  }

  /** Follow what `name` shall be from now on; `options` are the relay's (`maxAgeMs`, `onSlow`), and
   * `resumes` for feeds whose past is wanted after a break. */
  follow(name, subscription, { resumes = false, ...options } = {}) {
    this.drop(name);
    const topic = { name, subscription, options, resumes, id: null, cursor: null, seenMs: 0 };
    this.topics.set(name, topic);
    if (this.state === "live") this.#subscribe(topic);
  }

  drop(name) {
    const topic = this.topics.get(name);
    if (!topic) return;
    this.topics.delete(name);
    this.ids.delete(topic.id);
    if (this.state === "live" && topic.id !== null) this.#send({ method: "unsubscribe", id: topic.id });
  }

  /** From the beginning: the next frame is a snapshot. */
  again(name) {
    const { subscription, options, resumes } = this.topics.get(name);
    this.follow(name, subscription, { ...options, resumes });
  }

  start() {
    if (this.state === "paused" || this.state === "refused") this.#connect();
  }

  /** Close and stay closed until `start`. */
  pause() {
    this.#stop();
    this.#tell("paused", {});
  }

  // --- one connection after the other ---

  async #connect() {
    this.#stop();
    const attempt = this.attempt;
    this.#tell("connecting", {});
    let given;
    try {
      given = await this.token();
    } catch (error) {
      if (attempt !== this.attempt) return;
      if (error.isFinal) this.#tell("refused", { why: error.message });
      else this.#wait(0);
      return;
    }
    if (attempt !== this.attempt) return;
    const socket = this.open(given.ws, [PROTOCOL, KEY_PROTOCOL + given.token]);
    this.socket = socket;
    const current = (act) => (event) => socket === this.socket && act(event);
    socket.onopen = current(() => this.#opened(given.expires_in * 1_000));
    socket.onmessage = current((event) => this.#message(event.data));
    socket.onclose = current((event) => this.#wait(event.code, event.reason));
  }

  #opened(lifeMs) {
    this.#tell("live", {});
    this.heardMs = this.now();
    this.#timer("well", () => (this.tries = 0), WENT_WELL_MS);
    this.#timer("renew", () => this.#connect(), Math.max(1_000, lifeMs - RENEW_BEFORE_MS));
    this.#ping();
    for (const topic of this.topics.values()) this.#subscribe(topic);
  }

  #ping() {
    if (this.now() - this.heardMs > SILENT_MS) {
      this.#wait(0);
      return;
    }
    this.#send({ method: "ping" });
    this.on.ping?.(this.now());
    this.#timer("ping", () => this.#ping(), PING_EVERY_MS);
  }

  #wait(code, reason = "") {
    this.#stop();
    const most = WAITS_MS[Math.min(this.tries, WAITS_MS.length - 1)];
    this.tries += 1;
    // Half of it at random: not everybody comes back in the same moment.
    const inMs = Math.round(most * (0.5 + Math.random() / 2));
    this.#tell("waiting", { inMs, code, reason });
    this.#timer("connect", () => this.#connect(), inMs);
  }

  #stop() {
    this.attempt += 1;
    for (const timer of this.timers.values()) this.never(timer);
    this.timers.clear();
    const { socket } = this;
    this.socket = null;
    this.ids.clear();
    socket?.close(1000);
  }

  // --- what goes and comes ---

  #subscribe(topic) {
    const id = this.nextId++;
    topic.id = id;
    this.ids.set(id, topic);
    const isRecent = this.now() - topic.seenMs < MAX_RESUME_MS;
    const from = topic.resumes && topic.cursor && isRecent ? { from: topic.cursor } : {};
    if (topic.resumes && topic.cursor) this.on.resume?.(topic.name, isRecent);
    this.#send({ method: "subscribe", id, subscription: topic.subscription, ...topic.options, ...from });
  }

  #message(text) {
    this.heardMs = this.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (frame.channel === "pong") this.on.pong?.(this.heardMs);
    else if (frame.channel === "relay") this.#event(frame.data);
    else if (frame.seq !== undefined) {
      const topic = this.ids.get(frame.id);
      if (!topic) return; // of a coin that is not looked at any more
      topic.cursor = frame.cursor ?? topic.cursor;
      topic.seenMs = this.heardMs;
      this.on.frame(topic.name, frame, this.heardMs);
    }
  }

  #event(data) {
    const topic = this.ids.get(data.id);
    if (data.id !== undefined && data.id !== null && !topic) return;
    if (topic && data.type === "gap") topic.cursor = data.to ?? topic.cursor;
    if (topic && (data.type === "resumeFailed" || data.code === "bad_cursor")) topic.cursor = null;
    this.on.event(topic?.name ?? "", data);
    // What cannot be gone on with begins anew.
    if (topic && (data.type === "resumeFailed" || data.code === "bad_cursor")) this.again(topic.name);
  }

  #send(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  #tell(state, detail) {
    this.state = state;
    this.on.state(state, detail);
  }

  #timer(name, act, ms) {
    if (this.timers.has(name)) this.never(this.timers.get(name));
    this.timers.set(name, this.later(act, ms));
  }
}

/** A dashboard token of the page that `url` belongs to. */
export async function fetchToken(url, csrf, { fetch = globalThis.fetch } = {}) {
  let answer;
  try {
    answer = await fetch(url, { method: "POST", headers: { "X-CSRFToken": csrf, "HX-Request": "true" } });
  } catch {
    throw new Error("unreachable");
  }
  if (answer.ok) return answer.json();
  const error = new Error(answer.status === 401 ? "signed-out" : `status ${answer.status}`);
  error.isFinal = answer.status < 500 && answer.status !== 429;
  throw error;
}
