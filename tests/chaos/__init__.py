"""Faults thrown at a whole relay, and the oracle's word on what its customers got: `make chaos`."""
