"""Wiring: settings, processes, the operators' site. Nothing imports it."""
