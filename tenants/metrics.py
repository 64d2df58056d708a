"""What admission and notices count. Never labelled by tenant or key: those have no bound."""

from prometheus_client import Counter, Gauge

admissions = Counter("relay_admission_total", "Answers at the door, by their code.", ["outcome"])
lookups = Counter("relay_admission_lookups_total", "Where keys were looked up.", ["source"])
lookup_failures = Counter(
    "relay_admission_lookup_failures_total", "Sources that did not answer.", ["source"]
)
announcements = Counter(
    "relay_admission_announcements_total",
    "Changes of keys and limits told to other processes.",
    ["channel", "result"],
)
revocations = Counter(
    "relay_admission_revocations_total", "Keys with open connections that stopped being valid."
)
cached_keys = Gauge(
    "relay_admission_cached_keys", "Keys in the process cache.", multiprocess_mode="livesum"
)
open_keys = Gauge(
    "relay_admission_open_keys", "Keys with open connections.", multiprocess_mode="livesum"
)
delivery_attempts = Counter(
    "relay_notice_delivery_attempts_total",
    "Notices sent to endpoints and mailboxes, by what came of it.",
    ["channel", "result"],
)
unshared = Counter(
    "relay_admission_unshared_total",
    "Times that limits fell to this process's share, because Redis did not answer.",
    ["what"],
)
wrong_keys = Counter(
    "relay_admission_wrong_keys_throttled_total", "Wrong keys of addresses that sent too many."
)
continued_allowances = Counter(
    "relay_admission_continued_allowances_total",
    "Reads of tenants that go by the amounts of an earlier period, because nobody has written those"
    " of this one: the jobs stand still.",
)
