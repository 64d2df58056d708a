// Two sockets, asked for the same in the same moment. Addresses and keys live here for as long as
// the race, and nowhere else.

import { eventsOf, Race } from "./core.js";

const OPEN_WITHIN_MS = 15_000;
const PING_EVERY_MS = 30_000;
/** A race is kept in memory: what is more than that ends it. */
export const MAX_FRAMES = 200_000;

/** Why an endpoint cannot race: {side, code, detail}. */
export class Failed extends Error {
  constructor(side, code, detail = "") {
    super(code);
    Object.assign(this, { side, code, detail });
  }
}

/**
 * Race `ends`, two of {url, protocols}, until `ms` are over or `signal` aborts. `progress(race,
 * leftMs)` is called now and then. Resolves to the Race, rejects with Failed.
 */
export function run(ends, { channel, coin, ms, signal, progress, open = (url, protocols) => new WebSocket(url, protocols),
  now = () => performance.now() }) {
  const race = new Race();
  const sockets = [];
  const timers = [];
  let opened = 0;
  let frames = 0;
  let endsAt = null;
  return new Promise((resolve, reject) => {
    const finish = (settle, value) => {
      timers.forEach(clearInterval);
      sockets.forEach((socket) => {
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
      });
      settle(value);
    };
    const fail = (...why) => finish(reject, new Failed(...why));
    const done = () => {
      const mute = race.begunMs.indexOf(null);
      if (mute >= 0) fail(mute, "silent");
      else finish(resolve, race);
    };
    const begin = () => {
      endsAt = now() + ms;
      const message = JSON.stringify({ method: "subscribe", subscription: { type: channel, coin } });
      sockets.forEach((socket) => socket.send(message));
      timers.push(setTimeout(done, ms));
      timers.push(setInterval(() => progress?.(race, Math.max(0, endsAt - now())), 250));
      timers.push(setInterval(() => sockets.forEach((socket) => socket.send('{"method":"ping"}')), PING_EVERY_MS));
    };
    timers.push(setTimeout(() => endsAt ?? fail(sockets.findIndex((socket) => socket.readyState !== 1), "timeout"), OPEN_WITHIN_MS));
    signal?.addEventListener("abort", () => (endsAt === null ? fail(-1, "stopped") : done()));
    ends.forEach(({ url, protocols }, side) => {
      let socket;
      try {
        socket = open(url, protocols ?? []);
      } catch (error) {
        fail(side, "refused", error.message);
        return;
      }
      sockets.push(socket);
      socket.onopen = () => ++opened === 2 && begin();
      socket.onclose = ({ code }) => fail(side, endsAt === null ? "refused" : "ended", code ? String(code) : "");
      socket.onmessage = ({ data }) => {
        const atMs = now();
        const frame = read(data);
        const said = errorOf(frame);
        if (said !== null) fail(side, "error", said);
        else race.frame(side, eventsOf(frame, { channel, coin }), atMs);
        if (++frames >= MAX_FRAMES) done();
      };
    });
  });
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a greeting
  }
}

/** What an endpoint complains of, in either dialect; null when it does not. */
function errorOf(frame) {
  if (frame?.channel === "error") return String(frame.data).slice(0, 200);
  const isOurs = frame?.channel === "relay" && frame.data.type === "error" && frame.data.code !== "not_ready";
  return isOurs ? String(frame.data.msg).slice(0, 200) : null;
}
