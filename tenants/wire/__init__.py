"""What every process needs to talk to Redis."""
