"""POST /exchange: signed actions of customers, run in the next block."""
