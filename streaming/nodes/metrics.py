"""What the ledger counts."""

from prometheus_client import Counter

gap_reports = Counter("relay_gap_reports_refused", "Gap reports not taken, by reason.", ["reason"])
