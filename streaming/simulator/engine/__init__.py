"""A matching engine with simulated users: pure, seeded, no clock and no I/O."""
