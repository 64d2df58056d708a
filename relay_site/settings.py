"""Settings of every environment, read once from the process environment.

`RELAY_ENV` is `embedded` (the default: everything lives in `RELAY_VAR`, a fresh clone runs) or
`production` (refuses every default that would be unsafe there). Any `NAME` can also be given as
`NAME_FILE`. What is wrong is collected in `SETTINGS_PROBLEMS` and refused, all at once, when the
process starts (`relay_site/apps.py`).
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from django.templatetags.static import static

from billing.invoicing.schedule import read_prefix, read_schedule
from billing.payments.readiness import stripe_problems
from gateway.api import config as account_api
from gateway.grpc.config import tls_problems
from relay_site import redis_urls
from relay_site.environment import Environment
from relay_site.logging import logging_config
from relay_site.production import production_problems
from relay_site.secrets import keep_secret

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(os.environ)

RELAY_ENV = env.choice("RELAY_ENV", of=("embedded", "production"), default="embedded")
IS_PRODUCTION = RELAY_ENV == "production"

# --- the relay itself -----------------------------------------------------------------------------

RELAY_VAR = env.folder("RELAY_VAR", default=BASE_DIR / "var")
RELAY_HTTP_HOST = env.host("RELAY_HTTP_HOST", default="127.0.0.1")
RELAY_HTTP_PORT = env.port("RELAY_HTTP_PORT", default=8000)
#: Of an HTTP edge of its own (`serve_http`) that `up` starts beside the sockets' process; 0: none.
RELAY_HTTP_EDGE_PORT = env.integer("RELAY_HTTP_EDGE_PORT", default=0, least=0, most=65535)
RELAY_GRPC_HOST = env.host("RELAY_GRPC_HOST", default="127.0.0.1")
RELAY_GRPC_PORT = env.port("RELAY_GRPC_PORT", default=50051)
#: PEM files of the gRPC server; with a CA, only clients whose certificate it signed come in.
RELAY_GRPC_TLS_CERT = env.text("RELAY_GRPC_TLS_CERT")
RELAY_GRPC_TLS_KEY = env.text("RELAY_GRPC_TLS_KEY")
RELAY_GRPC_TLS_CLIENT_CA = env.text("RELAY_GRPC_TLS_CLIENT_CA")
env.problems.extend(tls_problems(RELAY_GRPC_TLS_CERT, RELAY_GRPC_TLS_KEY, RELAY_GRPC_TLS_CLIENT_CA))
RELAY_METRICS_HOST = env.host("RELAY_METRICS_HOST", default="127.0.0.1")
#: Peers that may read /metrics of the web process besides loopback; networks in CIDR form.
RELAY_METRICS_ALLOW = env.words("RELAY_METRICS_ALLOW")
#: Peers whose X-Forwarded-For is believed: in production the proxy on this host (as in
#: deploy/nginx.conf). Everybody else's says nothing, or the finder of a key could write what its
#: list asks for.
RELAY_TRUSTED_PROXIES = env.networks(
    "RELAY_TRUSTED_PROXIES", default=("127.0.0.0/8", "::1/128") if IS_PRODUCTION else ()
)
#: Comma-separated upstreams, as `streaming.upstream.spec.parse_upstreams` reads them.
RELAY_UPSTREAMS = env.text("RELAY_UPSTREAMS", "" if IS_PRODUCTION else "simulator:")
#: The simulated exchange behind /sandbox/<key>/…: `simulator:` (the supervisor's own), or the
#: http://host:port of a `manage.py run_simulator`; none: no sandbox. Never a real exchange's.
RELAY_SANDBOX = env.text("RELAY_SANDBOX", "simulator:" if "simulator:" in RELAY_UPSTREAMS else "")
#: Upstream workers that `manage.py up` starts. Two publish the same, so that either may die.
RELAY_UPSTREAM_WORKERS = env.integer("RELAY_UPSTREAM_WORKERS", default=2, least=1, most=8)
#: A connection that has sent nothing for so long is closed. The exchange's own Python client opens
#: one with its first object and sends its first ping after 50 s.
RELAY_MUTE_S = env.number("RELAY_MUTE_S", default=60.0, least=1.0, most=86_400.0)
#: Whether an edge hands out frames in C, where that was built (`make install`, with a compiler).
RELAY_NATIVE_FANOUT = env.switch("RELAY_NATIVE_FANOUT", default=True)
#: Seconds over which a stopping edge lets its sessions go.
RELAY_DRAIN_S = env.number(
    "RELAY_DRAIN_S", default=30.0 if IS_PRODUCTION else 0.0, least=0.0, most=600.0
)
#: Where this process is, as plans name regions; each batch of usage says it. `default`, where all
#: stand in one, is in every plan.
RELAY_REGION = env.word("RELAY_REGION", default="default")
#: Processes that are thought to share rates and allowances by one that has not heard yet how many
#: do, because it began while Redis was away: else each would give all of them.
RELAY_PROCESSES = env.integer("RELAY_PROCESSES", default=4, least=1, most=1_000)
#: Days for which usage in detail is kept, beside the present month and the one before, which always
#: are: sums by hour, in which minutes a coin was followed, and batches that could not be read.
RELAY_KEEP_HOURLY_DAYS = env.integer("RELAY_KEEP_HOURLY_DAYS", default=400, least=1, most=36_500)
RELAY_KEEP_COIN_HOURS_DAYS = env.integer(
    "RELAY_KEEP_COIN_HOURS_DAYS", default=62, least=1, most=36_500
)
RELAY_KEEP_QUARANTINE_DAYS = env.integer(
    "RELAY_KEEP_QUARANTINE_DAYS", default=400, least=1, most=36_500
)
#: Records of refused and failed requests: for how many days, and how many in all.
RELAY_KEEP_REQUESTS_DAYS = env.integer("RELAY_KEEP_REQUESTS_DAYS", default=7, least=1, most=400)
RELAY_KEEP_REQUESTS = env.integer(
    "RELAY_KEEP_REQUESTS", default=1_000_000, least=1_000, most=100_000_000
)
#: What one address of ours may ask the public API a minute, in its weights; less, where something
#: else asks from the same address.
RELAY_PUBLIC_WEIGHT = env.integer("RELAY_PUBLIC_WEIGHT", default=1_200, least=0, most=1_000_000)
#: The same of the exchange's own EVM node, in requests.
RELAY_PUBLIC_EVM_REQUESTS = env.integer(
    "RELAY_PUBLIC_EVM_REQUESTS", default=100, least=0, most=1_000_000
)
#: What traces of a day's orders may take of Redis; tenants share it evenly.
RELAY_TRACE_MIB = env.integer("RELAY_TRACE_MIB", default=128, least=1, most=65_536)
#: API keys that work at one time, of a tenant; those beside their successors aside.
RELAY_MAX_KEYS = env.integer("RELAY_MAX_KEYS", default=100, least=1, most=100_000)
#: Makes stored key digests useless to one who has only the database. Changing it voids every key.
RELAY_KEY_PEPPER = env.text("RELAY_KEY_PEPPER")
#: Whether tenants' webhooks may go to private addresses and over plain http: for relays whose
#: tenants live in the same network. Off, a tenant can reach only what it could reach from outside.
RELAY_WEBHOOKS_PRIVATE = env.switch("RELAY_WEBHOOKS_PRIVATE", default=False)
#: How long the log of delivery attempts is kept.
RELAY_NOTICES_LOG_DAYS = env.integer("RELAY_NOTICES_LOG_DAYS", default=30, least=1, most=3_650)
#: How a plan of one month is billed: by calendar months, or from the day it began.
RELAY_BILLING_PERIODS = env.choice(
    "RELAY_BILLING_PERIODS", of=("calendar", "anniversary"), default="calendar"
)
#: What customers are told to connect to, where that differs from the address we listen on.
RELAY_PUBLIC_URL = env.text("RELAY_PUBLIC_URL").rstrip("/")
#: The replay log: seconds and MiB of Redis for events (trades, fills, l2Diff, order updates …), and
#: for the bulk (l4Book, l4Diff, raw node streams).
RELAY_LOG_S_EVENTS = env.number("RELAY_LOG_S_EVENTS", default=3600.0, least=60.0, most=86_400.0)
RELAY_LOG_S_BULK = env.number("RELAY_LOG_S_BULK", default=120.0, least=10.0, most=86_400.0)
RELAY_LOG_MIB_EVENTS = env.integer("RELAY_LOG_MIB_EVENTS", default=256, least=1, most=1_048_576)
RELAY_LOG_MIB_BULK = env.integer("RELAY_LOG_MIB_BULK", default=256, least=1, most=1_048_576)
#: What customers see as the name of this relay, in mails and authenticator apps.
RELAY_SITE_NAME = env.text("RELAY_SITE_NAME", "HL Relay")
#: Where links in mails lead; a mail has no request whose host it could take.
RELAY_SITE_URL = (
    RELAY_PUBLIC_URL
    if RELAY_PUBLIC_URL.startswith(("http://", "https://"))
    else f"http://{RELAY_HTTP_HOST}:{RELAY_HTTP_PORT}"
)
#: Whether anybody may sign up; who is invited always may.
RELAY_SIGNUP = env.switch("RELAY_SIGNUP", default=not IS_PRODUCTION)
#: The code of the plan that who signs up is on; without such a plan they are on none.
RELAY_SIGNUP_PLAN = env.text("RELAY_SIGNUP_PLAN", "free")
#: Whether operators must have a second factor before any page of the admin answers them. Off on a
#: laptop, whose printed operator signs in with a password.
RELAY_STAFF_MFA = env.switch("RELAY_STAFF_MFA", default=IS_PRODUCTION)
if IS_PRODUCTION and not RELAY_STAFF_MFA:
    env.warnings.append("RELAY_STAFF_MFA: off, so a password alone opens the admin")
#: The terms in force, by any name that changes when they do, and where they are to be read.
RELAY_TERMS_VERSION = env.text("RELAY_TERMS_VERSION", "1")[:40]
RELAY_TERMS_URL = env.text("RELAY_TERMS_URL")
#: Invoices: how long usage and corrections of a period still enter it after its end, what numbers
#: begin with, above which sum (USD) of what an operator gives to a tenant within how many days a
#: second person approves, and who issues them until the admin says.
RELAY_INVOICE_GRACE_H = env.integer("RELAY_INVOICE_GRACE_H", default=72, least=0, most=24 * 60)
RELAY_INVOICE_PREFIX = env.text("RELAY_INVOICE_PREFIX", "INV")
RELAY_CREDIT_LIMIT = env.integer("RELAY_CREDIT_LIMIT", default=500, least=0, most=10**9)
RELAY_CREDIT_WINDOW_DAYS = env.integer("RELAY_CREDIT_WINDOW_DAYS", default=30, least=1, most=366)
#: How many times the fee of an hour a customer that was not served for it gets back.
RELAY_SLA_FACTOR = env.integer("RELAY_SLA_FACTOR", default=10, least=1, most=1_000)
RELAY_SELLER_NAME = env.text("RELAY_SELLER_NAME", "HL Relay")
#: Days after the due date, and what is then done: `remind` by mail, or `suspend` the tenant.
RELAY_DUNNING = env.words("RELAY_DUNNING", default=("3:remind", "10:remind", "30:suspend"))
for _name, _read in (
    ("RELAY_DUNNING", lambda: read_schedule(RELAY_DUNNING)),
    ("RELAY_INVOICE_PREFIX", lambda: read_prefix(RELAY_INVOICE_PREFIX)),
):
    try:
        _read()
    except ValueError as _error:
        env.problems.append(f"{_name}: {_error}")
#: Who takes payments: nobody, they are recorded by hand; or Stripe. STRIPE_API_BASE is for tests.
RELAY_PAYMENTS = env.choice("RELAY_PAYMENTS", of=("manual", "stripe"), default="manual")
STRIPE_SECRET_KEY = env.text("STRIPE_SECRET_KEY")
STRIPE_WEBHOOK_SECRET = env.text("STRIPE_WEBHOOK_SECRET")
STRIPE_API_BASE = env.text("STRIPE_API_BASE").rstrip("/")
if RELAY_PAYMENTS == "stripe":
    env.problems.extend(
        stripe_problems(
            secret_key=STRIPE_SECRET_KEY,
            webhook_secret=STRIPE_WEBHOOK_SECRET,
            api_base=STRIPE_API_BASE,
        )
    )
env.know("RELAY_METRICS_PORT", "RELAY_TEST_DATA", "RELAY_TEST_DATABASE")

# --- Redis ----------------------------------------------------------------------------------------


def _redis(name: str, default: str) -> str:
    url = env.text(name, default)
    try:
        return redis_urls.parse(url)
    except redis_urls.BadRedisURL as error:
        env.problems.append(f"{name}: {error}")
        return default


#: Whether an operator named a Redis; else `manage.py up` starts one on the socket of RELAY_VAR.
REDIS_URL_IS_SET = env.is_set("REDIS_URL")
REDIS_URL = _redis("REDIS_URL", f"unix://{redis_urls.embedded_socket(RELAY_VAR)}")
REDIS_BUS_URL = _redis("REDIS_BUS_URL", REDIS_URL)
REDIS_BROKER_URL = _redis("REDIS_BROKER_URL", REDIS_URL)
REDIS_QUOTA_URL = _redis("REDIS_QUOTA_URL", REDIS_URL)
REDIS_CACHE_URL = _redis("REDIS_CACHE_URL", REDIS_URL)

CHANNEL_LAYERS = {
    # Pub/sub delivers seven times as much as the list-based layer, which drops the newest when
    # full.
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [redis_urls.for_channels(REDIS_BUS_URL)], "prefix": "relay"},
    }
}

# --- database -------------------------------------------------------------------------------------

_database = env.database(
    "DATABASE_URL",
    default={"ENGINE": "django.db.backends.sqlite3", "NAME": str(RELAY_VAR / "relay.sqlite3")},
)
DATABASES = {"default": _database}
DATABASE_ROUTERS = ["streaming.nodes.routing.LiveModels"]
IS_SQLITE = _database["ENGINE"].endswith("sqlite3")
if IS_SQLITE:
    # With Django's defaults 165 of 800 read-modify-write transactions of four processes failed
    # ("database is locked"); with these none did.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # Without recursive triggers an INSERT OR REPLACE deletes past those that guard the ledger.
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"
        "PRAGMA recursive_triggers=ON;",
    }
    # A file, not memory: the tests' other processes and threads open the same database.
    _database["TEST"] = {"NAME": str(RELAY_VAR / "test.sqlite3")}
else:
    _database["OPTIONS"] = {"charset": "utf8mb4", "isolation_level": "read committed"}
    _database["TEST"] = {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_ci"}
    _database["CONN_MAX_AGE"] = 60
    _database["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- cache and mail -------------------------------------------------------------------------------

CACHES = {
    # Shared, because sign-in is limited across all processes.
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_CACHE_URL,
        "KEY_PREFIX": "relay:cache",
    }
}
# Files and not the console: a worker's output is a log, and mails hold links that open something.
_mail = env.mail(
    "EMAIL_URL",
    default="smtp://localhost:25" if IS_PRODUCTION else f"filemail://{RELAY_VAR / 'mail'}",
)
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_FILE_PATH = _mail["EMAIL_FILE_PATH"]
EMAIL_HOST = _mail["EMAIL_HOST"] or "localhost"
EMAIL_PORT = _mail["EMAIL_PORT"] or 25
EMAIL_HOST_USER = _mail["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS = bool(_mail.get("EMAIL_USE_TLS"))
EMAIL_USE_SSL = bool(_mail.get("EMAIL_USE_SSL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "HL Relay <relay@localhost>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- Celery ---------------------------------------------------------------------------------------

CELERY_BROKER_URL = redis_urls.for_celery(REDIS_BROKER_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": "relay:celery:",
    # A task whose worker died is handed out again after this; every task is safe to run twice.
    "visibility_timeout": 300,
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 240
CELERY_TASK_DEFAULT_QUEUE = "relay"
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_ENABLE_UTC = True
CELERY_BEAT_SCHEDULE: dict[str, dict[str, object]] = {
    "gap-ledger": {
        "task": "streaming.nodes.tasks.ingest_gaps",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    # More often than the hour it seals, because a turn may be stopped or missed; a second one in
    # the same hour finds nothing to do.
    "usage-seals": {
        "task": "billing.tasks.seal_ledger",
        "schedule": 600.0,
        "options": {"expires": 600.0},
    },
    # What is due again, and what nobody was woken for; new notices wake a worker themselves.
    "webhooks": {
        "task": "tenants.tasks.send_webhooks",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "mail": {
        "task": "tenants.tasks.send_mail",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "delivery-log": {
        "task": "tenants.tasks.forget_delivery_attempts",
        "schedule": 3_600.0,
        "options": {"expires": 3_600.0},
    },
    "suspensions": {
        "task": "tenants.tasks.suspend_due",
        "schedule": 30.0,
        "options": {"expires": 30.0},
    },
    "terms": {
        "task": "billing.tasks.apply_terms",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "spend-caps": {
        "task": "billing.tasks.limit_spending",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    # Nightly work, asked for more often than once: each turn goes on where another was stopped.
    "usage-coins": {
        "task": "billing.tasks.fold_coins",
        "schedule": 3_600.0 * 6,
        "options": {"expires": 3_600.0},
    },
    "usage-retention": {
        "task": "billing.tasks.delete_expired_usage",
        "schedule": 3_600.0 * 6,
        "options": {"expires": 3_600.0},
    },
}
CELERY_BEAT_SCHEDULE |= {
    # Each goes on where the last was stopped, and finds nothing to do when there is nothing.
    name: {"task": f"billing.tasks.{task}", "schedule": every_s, "options": {"expires": every_s}}
    for name, task, every_s in (
        ("invoice-drafts", "close_periods", 900.0),
        ("invoices", "finalize_invoices", 900.0),
        ("invoice-mail", "send_invoices", 300.0),
        ("dunning", "dun", 3600.0),
        ("charges", "charge_invoices", 60.0),
        ("payment-events", "process_payment_events", 60.0),
    )
}
CELERY_BEAT_SCHEDULE["request-records"] = {
    "task": "gateway.tasks.forget_requests",
    "schedule": 3_600.0,
    "options": {"expires": 3_600.0},
}
CELERY_BEAT_SCHEDULE["gap-credits"] = {
    "task": "gateway.tasks.credit_gaps",
    "schedule": 3_600.0,
    "options": {"expires": 3_600.0},
}
CELERY_BEAT_SCHEDULE |= {
    "freshness": {
        "task": "gateway.tasks.sample_freshness",
        "schedule": 60.0,
        "options": {"expires": 30.0},
    },
    "freshness-retention": {
        "task": "gateway.tasks.forget_freshness",
        "schedule": 3_600.0,
        "options": {"expires": 3_600.0},
    },
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False

# --- mail -----------------------------------------------------------------------------------------

#: Where mail goes; unset, it is written into the log of the jobs.

# --- Django ---------------------------------------------------------------------------------------

DEBUG = env.switch("DEBUG", default=False)
#: Made once and kept in RELAY_VAR by an embedded relay; production brings its own.
SECRET_KEY = env.text("SECRET_KEY")
if not SECRET_KEY:
    # In production this is refused below, and nothing is written.
    SECRET_KEY = (
        "unset" if IS_PRODUCTION else keep_secret(RELAY_VAR / "secrets" / "django_secret_key")
    )
#: Comma-separated former keys: sessions, and the secrets of webhooks, go on with them.
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = env.words("RELAY_ALLOWED_HOSTS", default=("localhost", "127.0.0.1", "[::1]"))
CSRF_TRUSTED_ORIGINS = [
    origin for origin in (RELAY_PUBLIC_URL,) if origin.startswith(("http://", "https://"))
]

INSTALLED_APPS = [
    "daphne",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "auditlog",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "axes",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "relay_site",
    "tenants",
    "billing",
    "streaming",
    "streaming.nodes",
    "gateway",
    "gateway.exchange",
    "gateway.requests",
    "gateway.docsite",
    "gateway.operations",
    "gateway.backoffice",
    "csp",
    "gateway.dashboard",
]
MIDDLEWARE = [
    # First: everything below believes REMOTE_ADDR, and nothing below believes a header about it.
    "relay_site.client_address.client_address",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "relay_site.csp.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "relay_site.language.ReadersLanguage",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "auditlog.middleware.AuditlogMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",
    "relay_site.admin_login.second_factor",
]
ROOT_URLCONF = "relay_site.urls"
ASGI_APPLICATION = "relay_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway.dashboard.context.page",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- accounts -------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: it stops who is locked out
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "dashboard:home"
ACCOUNT_ADAPTER = "tenants.people.accounts.AccountAdapter"
ACCOUNT_SIGNUP_FORM_CLASS = "tenants.people.accounts.SignupForm"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
# Codes to type and not links to follow: a secret in an address ends up in histories and logs.
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = f"[{RELAY_SITE_NAME}] "
ACCOUNT_MAX_EMAIL_ADDRESSES = 5
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_EMAIL_NOTIFICATIONS = True
# Not by name, as allauth has it: who knows an operator's address would lock it out of the only
# log-in that asks for its second factor.
ACCOUNT_RATE_LIMITS = {"login_failed": "10/300s/ip"}
MFA_ADAPTER = "tenants.people.accounts.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = RELAY_SITE_NAME
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_PRODUCTION
# allauth limits its own pages; the admin's log-in is not one of them.
AXES_ONLY_ADMIN_SITE = True
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
# Not by name: anybody could then lock every operator out.
AXES_LOCKOUT_PARAMETERS = ["ip_address"]
AXES_CLIENT_IP_CALLABLE = "relay_site.client_address.lockout_address"
AXES_ENABLE_ADMIN = False  # relay_site/admin.py shows them
AXES_VERBOSE = False
# Its constraint of one verified account an address is conditional, which MySQL and MariaDB leave
# out; there only allauth's own checks remain.
SILENCED_SYSTEM_CHECKS = ["models.W036"]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hant", "繁體中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = "relay_site.formats"

STATIC_URL = "/static/"
# Production collects into it; an embedded relay serves what the apps bring as it is.
STATIC_ROOT = BASE_DIR / "static_root" if IS_PRODUCTION else None
WHITENOISE_USE_FINDERS = not IS_PRODUCTION
WHITENOISE_AUTOREFRESH = False
if IS_PRODUCTION:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "relay_site.static_files.Storage"},
    }

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
# A key may be part of a path and must not travel to other sites. Not "no-referrer": browsers then
# send "Origin: null" with a form, and Django's CSRF check refuses every log-in.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "gateway.dashboard.errors.csrf_failure"
if IS_PRODUCTION:
    # TLS ends in the proxy, which must set (never pass on) X-Forwarded-Proto: deploy/nginx.conf
    # does.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = env.integer("RELAY_HSTS_S", default=3600, least=0, most=2 * 365 * 86400)

UNFOLD = {
    "SITE_TITLE": "HL Relay",
    "SITE_HEADER": "HL Relay",
    "SITE_SYMBOL": "bolt",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("dashboard/favicon.svg"),
        }
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "LOGIN": {"form": "relay_site.admin_login.OperatorForm"},
    "DASHBOARD_CALLBACK": "gateway.backoffice.landing.dashboard",
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": True,
        "navigation": "gateway.backoffice.navigation.navigation",
    },
}
PROMETHEUS_EXPORT_MIGRATIONS = False

# --- the account API ------------------------------------------------------------------------------

REST_FRAMEWORK = account_api.REST_FRAMEWORK
SPECTACULAR_SETTINGS = account_api.SPECTACULAR_SETTINGS

# --- logging, and the verdict ---------------------------------------------------------------------

LOGGING = logging_config(
    is_production=IS_PRODUCTION,
    level=env.choice("RELAY_LOG_LEVEL", of=("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO"),
)
LOGGING_CONFIG = "relay_site.logging.configure"

env.warn_of_unknown()
if IS_PRODUCTION:
    env.problems.extend(
        production_problems(
            is_secret_key_set=env.is_set("SECRET_KEY"),
            secret_key=SECRET_KEY,
            is_debug=DEBUG,
            are_hosts_set=env.is_set("RELAY_ALLOWED_HOSTS"),
            allowed_hosts=ALLOWED_HOSTS,
            is_sqlite=IS_SQLITE,
            is_redis_set=REDIS_URL_IS_SET,
            upstreams=RELAY_UPSTREAMS,
            is_signup_open=RELAY_SIGNUP,
            is_mail_set=env.is_set("EMAIL_URL"),
            public_url=RELAY_PUBLIC_URL,
        )
    )
#: One line each; a process with problems does not start.
SETTINGS_PROBLEMS = env.problems
SETTINGS_WARNINGS = env.warnings
