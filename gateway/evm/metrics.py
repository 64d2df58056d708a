"""What the EVM door counts."""

from prometheus_client import Counter, Gauge

CALLS = Counter("relay_evm_calls", "JSON-RPC calls by method and outcome.", ["method", "outcome"])
UPSTREAM = Counter("relay_evm_upstream_requests", "Requests to EVM nodes by outcome.", ["outcome"])
FOLLOWERS = Gauge("relay_evm_subscriptions", "Subscriptions open, by kind.", ["kind"])
SKIPPED = Counter("relay_evm_heads_skipped", "Blocks that no subscription was told of.")
