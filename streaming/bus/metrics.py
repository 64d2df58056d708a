"""What the bus counts."""

from prometheus_client import Counter, Gauge

BUS_MESSAGES = Counter("relay_bus_messages", "Bus messages read by this process.")
BUS_BAD_MESSAGES = Counter("relay_bus_bad_messages", "Bus messages this process could not read.")
BUS_BAD_ENVELOPES = Counter(
    "relay_bus_bad_envelopes", "Envelopes the hub failed on: a fault of ours."
)
BUS_RECONNECTS = Counter("relay_bus_reconnects", "Times the bus connection had to be made again.")
BUS_PUBLISHED = Counter("relay_bus_published", "Bus messages published by this worker.")
BUS_PUBLISHED_BYTES = Counter("relay_bus_published_bytes", "Bytes published by this worker.")
BUS_SHED = Counter("relay_bus_shed", "Bus messages dropped because Redis took none.")
LEASED_TOPICS = Gauge("relay_leased_topics", "Topics leased, as this process sees it.")
LOG_BAD_ENTRIES = Counter("relay_log_bad_entries", "Replay log entries that could not be read.")
LOG_REPEATED = Counter(
    "relay_log_repeated", "Replay log entries that another worker had written before."
)
BUS_ERRORS = Counter("relay_bus_errors", "Errors Redis answered to this worker.")
GAP_REPORTS_SHED = Counter(
    "relay_gap_reports_shed", "Gap reports dropped because Redis was away for too long."
)
LOG_READS = Counter("relay_log_reads", "Reads of the replay log by edges, by outcome.", ["outcome"])
