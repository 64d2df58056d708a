"""The customers' pages: what a tenant's people see and do in a browser."""
