"""Names in Redis that the data plane uses, and how long they live."""

#: Pub/sub channel with the messages of one edge process.
BUS_CHANNEL = "relay:bus:{edge}"
#: Pub/sub doorbell: an edge changed its leases. Carries the change, so that nobody has to read it
#: back.
DEMAND_CHANNEL = "relay:demand"
#: Set of edge ids, and each edge's leases: a hash of topic name → how often its snapshot was asked
#: for.
EDGES = "relay:edges"
LEASES = "relay:leases:{edge}"
#: A lease outlives its edge by at most this long, so upstream subscriptions do not leak when an
#: edge is killed.
LEASE_TTL_S = 15
#: JSON {"coins":[…],"dexes":[…]}: what may be subscribed to.
CATALOGUE = "relay:catalogue"
#: JSON heartbeat of one worker: its id, sources and their state. Expires when the worker is gone.
WORKER = "relay:worker:{worker}"
WORKERS = "relay:workers"
WORKER_TTL_S = 5
#: Held by the worker that publishes; a second one stands by.
PUBLISHER_LEASE = "relay:publisher"
