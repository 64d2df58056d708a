"""A WebSocket consumer as the Channels tutorial writes it: a group, a layer, stock Daphne."""

from __future__ import annotations

import json
import os
from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="of no use: nothing here is signed",
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["daphne", "channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # Without the None, redis-py 8 breaks every consumer that hears nothing for 5 s.
            "CONFIG": {
                "hosts": [{"address": os.environ["BENCH_REDIS_URL"], "socket_timeout": None}]
            },
        }
    },
)

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402

GROUP = "bench"


class MarketConsumer(AsyncWebsocketConsumer):
    """Joins the group and passes on what the group gets."""

    async def connect(self) -> None:
        """Join, then accept."""
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave."""
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Acknowledge whatever is asked for: there is one group only."""
        await self.send(text_data='{"channel":"subscriptionResponse"}')

    async def market_message(self, event: dict[str, Any]) -> None:
        """Pass a group message on, decoded and encoded for each customer, as tutorials do."""
        await self.send(text_data=json.dumps(json.loads(event["text"]), separators=(",", ":")))


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws", MarketConsumer.as_asgi())]),
    }
)
