"""What the upstream worker counts, per source."""

from prometheus_client import Counter, Gauge, Histogram

BLOCKS = Counter("relay_upstream_blocks", "Closed blocks read.", ["source", "kind"])
FAULTS = Counter(
    "relay_upstream_faults", "Lines, frames or events that could not be used.", ["source", "reason"]
)
HEIGHT = Gauge("relay_upstream_height", "Highest block read.", ["source"])
BLOCK_AGE = Gauge(
    "relay_upstream_block_age_seconds", "Wall clock minus block time at the last block.", ["source"]
)
BOOKS_READY = Gauge(
    "relay_upstream_books_ready", "1 when the books are synced with a checkpoint.", ["source"]
)
CHECKPOINTS = Counter(
    "relay_upstream_checkpoints", "Checkpoints asked for, by outcome.", ["source", "outcome"]
)
CONNECTS = Counter("relay_upstream_connects", "Connections made to a public upstream.", ["source"])
APPLY_SECONDS = Histogram(
    "relay_upstream_apply_seconds",
    "Time from a wake-up with new lines to their frames on the bus.",
    ["source"],
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
)
LAG_BLOCKS = Gauge("relay_upstream_lag_blocks", "Heights behind the best node.", ["source"])
MARKED = Gauge(
    "relay_upstream_marked",
    "1 while a node is lagging, stalled or disagreeing, or one of its files has stopped; or a"
    " public feed is in quarantine.",
    ["source", "mark"],
)
DISAGREEMENTS = Counter(
    "relay_upstream_disagreements", "Blocks in which two nodes have different events.", ["kind"]
)
MERGED = Gauge(
    "relay_upstream_merged", "What the merge met, by reason, since the start.", ["reason"]
)
BOOKS_CORRECTED = Counter(
    "relay_upstream_books_corrected", "Books replaced because a checkpoint said otherwise."
)
PUBLIC_OWNER = Gauge("relay_upstream_public_owner", "1 while this worker runs the public sources.")
PUBLIC_REFUSED = Counter(
    "relay_public_refused", "Topics that found no place in the public budget.", ["source"]
)
SCHEMA_FINDINGS = Counter(
    "relay_upstream_schema_findings",
    "Channels, fields, types and cadences that were never seen before.",
    ["source", "change"],
)
SCHEMA_FAILURES = Counter(
    "relay_upstream_schema_failures",
    "Samples not looked at and findings not told, for a fault of ours.",
    ["source"],
)
