"""One event per line, and never a key in it.

JSON in production, readable in an embedded relay. Everything that logs (ours through structlog, and
Django, Daphne, Twisted, Celery through the standard library) goes through the same formatter, whose
last step replaces whatever looks like an API key in the finished line: in fields, messages,
arguments and tracebacks alike.

There is no access log: a path may hold a key, and per-request facts are metrics.
"""

from __future__ import annotations

import logging
import logging.config
import re
from typing import Any

import structlog

#: Wider than a valid key on purpose: a mistyped or cut one is a secret as well. `%5F` is an encoded
#: underscore.
KEY = re.compile(r"hlr(_|%5[Ff])(live|test|web)(?:_|%5[Ff])[0-9A-Za-z]{12,}")


#: Stripe's: keys and the secrets of its webhooks.
STRIPE_SECRET = re.compile(r"\b([sr]k_(?:live|test)_|whsec_)[0-9A-Za-z+/=_]{8,}")


def redact(text: str) -> str:
    """`text` with every API key cut down to its environment: `hlr_live_…`; Stripe's as well."""
    text = KEY.sub(r"hlr_\2_…", text) if "hlr" in text else text
    return STRIPE_SECRET.sub(r"\1…", text) if "k_" in text or "whsec_" in text else text


def redact_line(_logger: Any, _method: str, line: str) -> str:
    """`redact` as the last processor of a line."""
    return redact(line)


def _shared_processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]


def make_formatter(*, is_production: bool) -> structlog.stdlib.ProcessorFormatter:
    """The one formatter of every handler."""
    if is_production:
        rendering: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=False,
                pad_event_to=0,
                timestamp_key="at",
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *rendering,
            redact_line,  # type: ignore[list-item]  # gets the renderer's line
        ],
    )


def logging_config(*, is_production: bool, level: str) -> dict[str, Any]:
    """A `dictConfig`: everything of at least `level` to stderr, through the one formatter."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": "relay_site.logging.make_formatter", "is_production": is_production}
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Their handlers of old would print lines past the formatter.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            "celery": {"handlers": [], "level": level, "propagate": True},
            # One line for every task, twice, at INFO.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "daphne": {"level": level},
            # Requests and answers, with what is in them.
            "stripe": {"level": "WARNING"},
            "urllib3": {"level": "WARNING"},
            "asyncio": {"level": "WARNING"},
            "hypothesis": {"level": "WARNING"},
        },
    }


def configure(config: dict[str, Any]) -> None:
    """Apply `config` to the standard library and make structlog hand its events over to it."""
    logging.config.dictConfig(config)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
