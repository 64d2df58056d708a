// All coins of the exchange, and finding one among them. Pure.

/** From /info's answers; any of them may be missing. [{coin, name, kind, volume}] */
export function coinsOf({ perps, spot, dexes = [] }) {
  const found = [];
  const add = (universe, contexts, kind) =>
    universe.forEach((asset, place) => {
      if (asset.isDelisted) return;
      const context = contexts?.[place] ?? {};
      found.push({
        coin: asset.name,
        name: asset.shown ?? asset.name,
        kind,
        volume: Number(context.dayNtlVlm ?? 0),
        price: context.midPx ?? context.markPx ?? null,
      });
    });
  if (perps) add(perps[0].universe, perps[1], "perp");
  dexes.forEach((each) => add(each[0].universe, each[1], "hip3"));
  if (spot) {
    const [{ universe, tokens }, contexts] = spot;
    const names = new Map(tokens.map((token) => [token.index, token.name]));
    const byCoin = new Map((contexts ?? []).map((context) => [context.coin, context]));
    const shown = universe.map((pair) => ({
      name: pair.name,
      shown: pair.tokens.map((token) => names.get(token) ?? "?").join("/"),
    }));
    add(shown, shown.map((pair) => byCoin.get(pair.name)), "spot");
  }
  return found.sort((a, b) => b.volume - a.volume || a.name.localeCompare(b.name));
}

/** The coins that `text` may mean, the likeliest first: begins with it, then has it. */
export function search(coins, text, limit = 50) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return coins.slice(0, limit);
  const rank = ({ coin, name }) => {
    const [a, b] = [coin.toLowerCase(), name.toLowerCase()];
    const tail = a.slice(a.indexOf(":") + 1);
    if (a === wanted || b === wanted) return 0;
    if (a.startsWith(wanted) || b.startsWith(wanted) || tail.startsWith(wanted)) return 1;
    return a.includes(wanted) || b.includes(wanted) ? 2 : 3;
  };
  return coins
    .map((each) => [rank(each), each])
    .filter(([place]) => place < 3)
    .sort(([a], [b]) => a - b) // stable: by volume within
    .slice(0, limit)
    .map(([, each]) => each);
}
