"""What the HTTP edge counts."""

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "relay_info_requests",
    "/info requests by answer status, where it came from and whether it was given again.",
    ["status", "by", "cache"],
)
SECONDS = Histogram(
    "relay_info_seconds",
    "Time to answer /info.",
    ["by"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
ORIGIN_REQUESTS = Counter(
    "relay_origin_requests", "Requests to upstreams' /info by outcome.", ["outcome"]
)
