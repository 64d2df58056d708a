"""Invoices: drafted when a period ends, finalized after a grace, paid, and corrected."""
