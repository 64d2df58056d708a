"""Counting what was delivered, and bringing the counts into the database exactly once."""
