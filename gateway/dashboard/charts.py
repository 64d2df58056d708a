"""Small drawings that need no script."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 96, 24


def sparkline(values: Sequence[int], label: str) -> SafeString:
    """A line of `values`, the newest to the right, in the colour of its text; `label` says what a
    reader hears."""
    top = max(values, default=0) or 1
    step = WIDTH / max(1, len(values) - 1)
    points = " ".join(
        f"{n * step:.1f},{HEIGHT - 2 - (HEIGHT - 4) * value / top:.1f}"
        for n, value in enumerate(values)
    )
    return format_html(
        '<svg class="text-primary" width="{}" height="{}" viewBox="0 0 {} {}" role="img" '
        'aria-label="{}"><polyline points="{}" fill="none" stroke="currentColor" '
        'stroke-width="1.5" stroke-linejoin="round"></polyline></svg>',
        WIDTH,
        HEIGHT,
        WIDTH,
        HEIGHT,
        label,
        points,
    )
