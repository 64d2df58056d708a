"""What the gateway process shows of its node and its readers."""

from prometheus_client import Counter, Gauge

HEIGHT = Gauge("hl_gateway_height", "Highest closed block.", ["kind"])
LAG = Gauge(
    "hl_gateway_lag_seconds",
    "Wall clock minus block time when the newest block was read.",
    ["kind"],
)
SILENT = Gauge("hl_gateway_silent_seconds", "Since the files last grew.", ["kind"])
READ_BYTES = Counter("hl_gateway_read_bytes", "Bytes of lines in closed blocks.", ["kind"])
BACKLOG_BYTES = Gauge("hl_gateway_backlog_bytes", "Written by the node, not read yet.", ["kind"])
FILE_BYTES = Gauge("hl_gateway_file_bytes", "Read of the file being written.", ["kind"])
RING_BYTES = Gauge("hl_gateway_ring_bytes", "Memory of the blocks held.", ["kind"])
RING_OLDEST = Gauge("hl_gateway_ring_oldest_height", "Lowest block held.", ["kind"])
FAULTS = Counter("hl_gateway_faults", "Lines or files that could not be used.", ["kind", "reason"])
CLIENTS = Gauge("hl_gateway_clients", "Open block streams.")
CUT = Counter("hl_gateway_clients_cut", "Streams cut because their reader was too slow.")
SENT_BYTES = Counter("hl_gateway_sent_bytes", "Bytes of blocks handed to readers.")
REQUESTS = Counter("hl_gateway_requests", "Calls other than streams.", ["call", "outcome"])
