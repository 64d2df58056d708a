"""`/info` as Django REST framework's tutorial would have it, on uvicorn: a key in a table, a
throttle and the answer in Django's cache, a counter in the cache for what is billed."""

from __future__ import annotations

import os
import sys
from typing import Any

import django
from django.conf import settings

META = {"universe": [{"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 56}] * 24}

settings.configure(
    SECRET_KEY="bench",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("BENCH_DATABASE", ":memory:"),
            "CONN_MAX_AGE": 60,
        }
    },
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.exceptions import AuthenticationFailed  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.throttling import UserRateThrottle  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class ByKey(BaseAuthentication):
    """The key is a user's name."""

    def authenticate(self, request: Request) -> tuple[User, None]:
        """One query."""
        key = request.parser_context["kwargs"]["key"]
        user = User.objects.filter(username=key).first()
        if user is None:
            raise AuthenticationFailed
        return user, None


class Throttle(UserRateThrottle):
    """Never in the way, and counted all the same; DRF keeps each request's time, so few seconds."""

    rate = "1000000/s"


class Info(APIView):
    """The view."""

    authentication_classes = [ByKey]
    throttle_classes = [Throttle]

    def post(self, request: Request, key: str) -> Response:
        """From the cache."""
        kind: Any = request.data["type"]
        answer = cache.get(f"info:{kind}")
        if answer is None:
            answer = META
            cache.set(f"info:{kind}", answer, 60)
        cache.add(f"used:{key}", 0)
        cache.incr(f"used:{key}")
        return Response(answer)


urlpatterns = [path("<key>/info", Info.as_view())]
application = get_asgi_application()

if __name__ == "__main__":
    import uvicorn
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.get_or_create(username="bench")
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=False)
