// @nktkas/hyperliquid on user feeds, unchanged but for its addresses: prints what it was given.
//
//   node user_feeds.mjs ws://host:port/<key>/ws USER COIN FRAMES DEADLINE_S

import { SubscriptionClient, WebSocketTransport } from "@nktkas/hyperliquid";

const [wsUrl, user, coin, framesText, deadlineText] = process.argv.slice(2);
const frames = Number(framesText);

const ws = new WebSocketTransport({ url: wsUrl });
const subs = new SubscriptionClient({ transport: ws });

const got = { orderUpdates: [], userFills: [], user: [], candle: [] };
let finish;
const done = new Promise((resolve) => (finish = resolve));
const keep = (channel) => (data) => {
  got[channel].push(data);
  if (Object.values(got).every((list) => list.length >= frames)) finish(true);
};
const timer = setTimeout(() => finish(false), Number(deadlineText) * 1000);

// Each promise waits for its acknowledgement and matches it strictly.
const subscriptions = [
  await subs.orderUpdates({ user }, keep("orderUpdates")),
  await subs.userFills({ user }, keep("userFills")),
  await subs.userEvents({ user }, keep("user")),
  await subs.candle({ coin, interval: "1m" }, keep("candle")),
];
const complete = await done;
clearTimeout(timer);
for (const subscription of subscriptions) await subscription.unsubscribe();
await ws.close();
process.stdout.write(JSON.stringify({ complete, frames: got }), () => process.exit(0));
