"""What metering counts about itself. Nothing is labelled by tenant or key: those have no bound."""

from prometheus_client import Counter, Gauge

batches = Counter("relay_usage_batches_total", "Usage batches, by what became of them.", ["state"])
unshipped = Gauge(
    "relay_usage_unshipped",
    "Sealed batches in the spool that the database has not confirmed.",
    multiprocess_mode="livesum",
)
oldest_unshipped_s = Gauge(
    "relay_usage_oldest_unshipped_seconds",
    "Age of the oldest batch that the database has not confirmed.",
    multiprocess_mode="livemax",
)
spool_failures = Counter(
    "relay_usage_spool_failures_total",
    "Steps of the spool that failed and will be tried again.",
    ["step"],
)
recovered = Counter(
    "relay_usage_recovered_files_total", "Meter files of dead processes taken over."
)
slots = Gauge("relay_usage_slots", "Counting slots in use.", multiprocess_mode="livesum")
overflowed = Counter(
    "relay_usage_overflowed_slots_total",
    "Slots that could not be allocated; their usage counts as key 0.",
)
