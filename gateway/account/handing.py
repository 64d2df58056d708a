"""What a key may hand out to others: nothing that it has not itself. Pure.

A limit that a key has not holds nobody: it may give any. `was` is what the other key has already,
which stays where something else is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tenants.admission.access import parse_network, parse_origin
from tenants.admission.principal import Network
from tenants.models import APIKey

#: Less is narrower, and nothing is no limit.
_AT_MOST = ("rate_per_minute", "rate_burst", "daily_quota", "monthly_quota")
LIMITS = ("allowed_networks", "allowed_origins", *_AT_MOST, "expires_at")
_RATE = {"rate_per_minute", "rate_burst"}


def with_own(own: APIKey, rights: Mapping[str, Any]) -> dict[str, Any]:
    """`rights` of a new key, with the limits of the key that makes it where they name none."""
    # A rate is both or nothing, and half of one is the caller's mistake.
    kept = [name for name in LIMITS if name not in _RATE or not _RATE & rights.keys()]
    return {name: getattr(own, name) for name in kept} | dict(rights)


def rights_of(key: APIKey) -> dict[str, Any]:
    """What limits a key, as it would be handed out."""
    return {name: getattr(key, name) for name in LIMITS}


def wider(own: APIKey, given: Mapping[str, Any], was: APIKey | None = None) -> str | None:
    """Why `own` may not give these of `LIMITS`, as a line that names the field; None: it may. What
    no key can have is not judged here."""
    for name in LIMITS:
        if name in given and (line := _why(own, name, given[name], was)) is not None:
            return f"{name}: {line}"
    return None


def _why(own: APIKey, name: str, given: Any, was: APIKey | None) -> str | None:
    has, had = getattr(own, name), getattr(was, name) if was is not None else None
    if not has or (was is not None and given == had):
        return None
    if name in {"allowed_networks", "allowed_origins"}:
        return _why_not_listed(name, has, given, had or [])
    word = "ends at" if name == "expires_at" else "has"
    if given is None:
        return (
            None
            if was is not None and had is None
            else (f"this key {word} {_shown(has)}, so it cannot give one without a limit.")
        )
    # More than it has is left where it is, or lowered.
    if given <= has or (was is not None and (had is None or given <= had)):
        return None
    return f"this key {word} {_shown(has)}, so it cannot give {_shown(given)}."


def _why_not_listed(name: str, has: list[str], given: Any, had: list[str]) -> str | None:
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        return None
    shown = ", ".join(has[:3]) + (", …" if len(has) > 3 else "")
    if not given:
        return f"this key is good for {shown} alone, so it cannot give one without a list."
    for text in given:
        if text in had:
            continue
        try:
            if name == "allowed_origins":
                is_held = parse_origin(text) in has
            else:
                is_held = _is_inside(parse_network(text), map(parse_network, has))
        except ValueError:
            continue  # refused as no network or origin at all
        if not is_held:
            return f"this key is good for {shown} alone, so it cannot give {text}."
    return None


def _is_inside(network: Network, others: Iterable[Network]) -> bool:
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]
        for other in others
    )


def _shown(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if hasattr(value, "year") else str(value)
