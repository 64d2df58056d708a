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
#: Beside them, for each topic the ids of the tenants whose sessions follow it, as in `7 12`.
LEASE_TENANTS = "relay:leases:{edge}:tenants"
#: A lease outlives its edge by at most this long, so upstream subscriptions do not leak when an
#: edge is killed.
LEASE_TTL_S = 15
#: JSON {"coins":[…],"dexes":[…]}: what may be subscribed to.
CATALOGUE = "relay:catalogue"
#: Hash of worker → JSON {"at_s":…,"coins":[…],"dexes":[…]}: what each knows, of which the catalogue
#: is made.
CATALOGUES = "relay:catalogues"
#: JSON heartbeat of one worker: its id, sources and their state. Expires when the worker is gone.
WORKER = "relay:worker:{worker}"
WORKERS = "relay:workers"
WORKER_TTL_S = 5
#: The epoch of everything made from node data, the same for all workers. Gone after a flush of
#: Redis, and with it the replay log: then there is a new one.
EPOCH = "relay:epoch"
#: Held by the worker that runs what must run once: public and polled upstreams. It also speaks for
#: all when nobody serves a topic.
PUBLIC_LEASE = "relay:public-owner"
#: Hash: what the exchange sends that was never seen before → JSON of when and where. Written by the
#: first worker that finds it, which alone tells an operator; kept as long as Redis keeps it.
SCHEMA_ALERTS = "relay:schema:alerts"

# --- the replay log, the rates, the gap ledger's letterbox, the open sessions ---

#: Stream of one event topic, entry id `height-index`. Only node data (`n-` epochs) shares one
#: stream between workers and epochs; a public link's places mean something within its epoch only.
LOG = "relay:log:{name}"
LOG_OF_EPOCH = "relay:log:{epoch}:{name}"
#: Stream beside it: what came after a later entry was in, and declared gaps.
LOG_LATE = "relay:late:{log}"
#: Hash of one worker's hour (`hour`: hours since 1970): `<m|b|u> <topic>` → messages, bytes,
#: minutes leased.
RATES = "relay:rates:{hour}:{worker}"
#: Stream of one worker's minutes, by kind.
RATES_MINUTES = "relay:rates:minutes:{worker}"
RATES_WORKERS = "relay:rates:workers"
#: Stream of gap reports on their way to the ledger.
GAPS = "relay:gaps"
#: Set of edges that have open sessions; each one's sessions as hash id → JSON; and a list of the
#: ids that an operator wants ended.
SESSION_EDGES = "relay:sessions"
SESSIONS = "relay:sessions:{edge}"
SESSIONS_TTL_S = 15
DISCONNECTS = "relay:disconnect:{edge}"
