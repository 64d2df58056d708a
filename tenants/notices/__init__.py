"""How a tenant is told something: an outbox, signed webhooks, mail, and a log of each attempt."""
