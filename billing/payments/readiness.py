"""What Stripe needs before a process starts. Pure, and without the library."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def stripe_problems(*, secret_key: str, webhook_secret: str, api_base: str) -> list[str]:
    """What is missing, one line each, naming the variable and never its value."""
    problems = []
    if find_spec("stripe") is None:
        problems.append("RELAY_PAYMENTS: stripe needs its library: pip install stripe==16.1.0")
    if not secret_key.startswith(("sk_", "rk_")):
        problems.append("STRIPE_SECRET_KEY: RELAY_PAYMENTS=stripe needs a key (sk_… or rk_…)")
    if not webhook_secret.startswith("whsec_"):
        problems.append("STRIPE_WEBHOOK_SECRET: RELAY_PAYMENTS=stripe needs one (whsec_…)")
    if api_base:
        url = urlsplit(api_base)
        is_local = url.scheme == "http" and url.hostname in _LOOPBACK
        if not url.hostname or not (url.scheme == "https" or is_local):
            problems.append("STRIPE_API_BASE: an https:// address, or http:// on loopback")
    return problems
