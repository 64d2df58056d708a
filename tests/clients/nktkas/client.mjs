// @nktkas/hyperliquid, unchanged but for its addresses: prints what it was given as one JSON object.
//
//   node client.mjs http://host:port/<key> ws://host:port/<key>/ws COIN FRAMES DEADLINE_S
//
// Node before 22 hides its WebSocket behind --experimental-websocket.

import { HttpTransport, InfoClient, SubscriptionClient, WebSocketTransport } from "@nktkas/hyperliquid";

const [baseUrl, wsUrl, coin, framesText, deadlineText] = process.argv.slice(2);
const frames = Number(framesText);

const http = new HttpTransport({ apiUrl: `${baseUrl}/` });
const info = new InfoClient({ transport: http });
const ws = new WebSocketTransport({ url: wsUrl });
const subs = new SubscriptionClient({ transport: ws });

const got = { l2Book: [], bbo: [], trades: [], allMids: [] };
let finish;
const done = new Promise((resolve) => (finish = resolve));
const keep = (channel) => (data) => {
  got[channel].push(data);
  if (Object.values(got).every((list) => list.length >= frames)) finish(true);
};
const timer = setTimeout(() => finish(false), Number(deadlineText) * 1000);

// Each promise waits for its acknowledgement and matches it strictly.
const subscriptions = [
  await subs.l2Book({ coin }, keep("l2Book")),
  await subs.bbo({ coin }, keep("bbo")),
  await subs.trades({ coin }, keep("trades")),
  await subs.allMids(keep("allMids")),
];
const complete = await done;
clearTimeout(timer);
const answers = { l2Book: await info.l2Book({ coin }), allMids: await info.allMids() };
for (const subscription of subscriptions) await subscription.unsubscribe();
await ws.close();
process.stdout.write(JSON.stringify({ complete, frames: got, info: answers }), () => process.exit(0));
