"""Payments that come in by themselves: a provider charges what customers left with it."""
