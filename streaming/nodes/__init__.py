"""The data plane's few tables, and what operators see of it."""
