"""First programs, one a client, with the customer's own addresses and key in them.

The texts are templates of their own (`templates/dashboard/snippets/`), so that tests read, parse
and run exactly what customers copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.template.loader import render_to_string

from gateway.dashboard.addresses import Addresses

#: In place of a key that is not shown any more.
YOUR_KEY = "YOUR_KEY"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A client: the name of its tab, the file of its text, and how it is installed."""

    title: str
    name: str
    install: str = ""
    text: str = ""


SNIPPETS = (
    Snippet("Python SDK", "python-sdk", "pip install hyperliquid-python-sdk"),
    Snippet("ccxt", "ccxt", "pip install ccxt"),
    Snippet("TypeScript", "typescript", "npm install @nktkas/hyperliquid"),
    Snippet("Go", "go", "go get github.com/coder/websocket"),
    Snippet("curl", "curl"),
    Snippet("wscat", "wscat", "npm install -g wscat"),
    Snippet("grpcurl", "grpcurl"),
)


def snippets(addresses: Addresses, key: str = YOUR_KEY) -> list[Snippet]:
    """All of them, filled in."""
    return [
        Snippet(
            snippet.title,
            snippet.name,
            snippet.install,
            render_to_string(
                f"dashboard/snippets/{snippet.name}.txt", {"key": key, "at": addresses}
            ).strip(),
        )
        for snippet in SNIPPETS
    ]
