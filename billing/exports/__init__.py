"""What finance takes out: tables of a period as CSV, the journal, and what ties them together."""
