// viem, unchanged but for the URL: prints what it was given as one JSON object.
//
// node client.mjs http://host:port/<key>/evm HEADS DEADLINE_S

import { createPublicClient, defineChain, http, parseAbi, webSocket } from "viem";

const [url, wanted, deadlineS] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const wsUrl = url.replace("http", "ws");
const chain = defineChain({
  id: 999,
  name: "HyperEVM",
  nativeCurrency: { name: "HYPE", symbol: "HYPE", decimals: 18 },
  rpcUrls: { default: { http: [url], webSocket: [wsUrl] } },
});
const abi = parseAbi([
  "function name() view returns (string)",
  "function balanceOf(address) view returns (uint256)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

const client = createPublicClient({ chain, transport: http(url, { batch: true }) });
const number = await client.getBlockNumber();
const block = await client.getBlock({ blockNumber: number, includeTransactions: true });
const logs = await client.getLogs({ fromBlock: number - 8n, toBlock: number });
const token = logs[0].address;
const transfers = await client.getContractEvents({
  address: token, abi, eventName: "Transfer", fromBlock: number - 8n, toBlock: number,
});
const [name, balance, receipt, fees] = await Promise.all([
  client.readContract({ address: token, abi, functionName: "name" }),
  client.readContract({
    address: token, abi, functionName: "balanceOf", args: [transfers[0].args.to],
    blockNumber: number,
  }),
  client.getTransactionReceipt({ hash: logs[0].transactionHash }),
  client.estimateFeesPerGas(),
]);

const socket = createPublicClient({ chain, transport: webSocket(wsUrl) });
const heads = [];
const logBlocks = [];
let complete = true;
await new Promise((resolve) => {
  const timer = setTimeout(() => { complete = false; resolve(); }, deadlineS * 1000);
  const done = () => {
    if (heads.length >= wanted && logBlocks.length) { clearTimeout(timer); resolve(); }
  };
  socket.watchBlocks({ onBlock: (each) => { heads.push(Number(each.number)); done(); } });
  socket.watchContractEvent({
    address: token, abi, eventName: "Transfer",
    onLogs: (each) => { logBlocks.push(...each.map((log) => Number(log.blockNumber))); done(); },
  });
});

console.log(JSON.stringify({
  chain_id: await client.getChainId(),
  number: Number(number),
  hash: block.hash,
  logs: logs.length,
  transfers: transfers.length,
  value: Number(transfers[0].args.value),
  receipt_logs: receipt.logs.length,
  name,
  balance: Number(balance),
  max_fee: Number(fees.maxFeePerGas),
  heads,
  log_blocks: logBlocks,
  complete,
}));
process.exit(0);
