"""What the bus counts."""

from prometheus_client import Counter, Gauge

BUS_MESSAGES = Counter("relay_bus_messages", "Bus messages read by this process.")
BUS_BAD_MESSAGES = Counter("relay_bus_bad_messages", "Bus messages this process could not read.")
BUS_RECONNECTS = Counter("relay_bus_reconnects", "Times the bus connection had to be made again.")
BUS_PUBLISHED = Counter("relay_bus_published", "Bus messages published by this worker.")
BUS_PUBLISHED_BYTES = Counter("relay_bus_published_bytes", "Bytes published by this worker.")
BUS_SHED = Counter("relay_bus_shed", "Bus messages dropped because Redis took none.")
LEASED_TOPICS = Gauge("relay_leased_topics", "Topics leased, as this process sees it.")
