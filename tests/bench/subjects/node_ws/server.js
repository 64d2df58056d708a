// The usual fan-out in node: one Redis subscription, client.send for each client in turn.
//   node server.js PORT REDIS_PORT CHANNEL
"use strict";
const net = require("node:net");
const { WebSocketServer } = require("ws");

const [port, redisPort, channel] = process.argv.slice(2);
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port) });

// Redis pushes ["message", channel, payload] as RESP: three bulk strings. A client library would cost more than this.
const redis = net.connect(Number(redisPort), "127.0.0.1");
redis.setNoDelay(true);
redis.write(`*2\r\n$9\r\nSUBSCRIBE\r\n$${Buffer.byteLength(channel)}\r\n${channel}\r\n`);
redis.on("close", () => process.exit(1));

let unread = Buffer.alloc(0);

// The element at `at`, and where the next one begins; undefined while it is not whole.
function element(at) {
  const end = unread.indexOf("\r\n", at);
  if (end < 0) return undefined;
  if (unread[at] !== 0x24) return { next: end + 2 }; // not "$": an integer
  const next = end + 2 + Number(unread.latin1Slice(at + 1, end)) + 2;
  return next <= unread.length ? { bytes: unread.subarray(end + 2, next - 2), next } : undefined;
}

function push(at) {
  const kind = element(at + 4); // after "*3\r\n"
  const name = kind && element(kind.next);
  const payload = name && element(name.next);
  return payload && { kind: kind.bytes.latin1Slice(), payload: payload.bytes, next: payload.next };
}

redis.on("data", (chunk) => {
  unread = unread.length ? Buffer.concat([unread, chunk]) : chunk;
  let at = 0;
  while (at + 4 < unread.length) {
    const message = push(at);
    if (!message) break;
    at = message.next;
    if (message.kind !== "message") continue;
    for (const client of server.clients) {
      if (client.readyState === 1) client.send(message.payload, { binary: false });
    }
  }
  unread = unread.subarray(at);
});
