"""Recorded data served again, in its order and with its timing."""
