"""Files that are sent while they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse


def download(
    request: HttpRequest,
    blocks: Iterator[bytes],
    name: str,
    content_type: str,
    *,
    is_inline: bool = False,
) -> Any:
    """`blocks` as a file called `name`, which holds no quotes."""
    # Under ASGI, Django would collect a plain iterator into a list before it sent any of it.
    body: Any = _one_by_one(blocks) if isinstance(request, ASGIRequest) else blocks
    answer: HttpResponseBase = StreamingHttpResponse(body, content_type=content_type)
    way = "inline" if is_inline else "attachment"
    answer["Content-Disposition"] = f'{way}; filename="{name}"'
    answer["Cache-Control"] = "no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


async def _one_by_one(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(lambda: next(blocks, None))
    while (block := await take()) is not None:
        yield block
