"""People: who belongs to a tenant, and what each of them may do there."""
