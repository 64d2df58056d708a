"""What a production relay refuses: every default that is only safe on a laptop."""

from __future__ import annotations

from collections.abc import Sequence

MIN_SECRET_KEY_CHARS = 50


def production_problems(
    *,
    is_secret_key_set: bool,
    secret_key: str,
    is_debug: bool,
    are_hosts_set: bool,
    allowed_hosts: Sequence[str],
    is_sqlite: bool,
    is_redis_set: bool,
    upstreams: str,
    is_signup_open: bool = False,
    is_mail_set: bool = False,
    public_url: str = "",
) -> list[str]:
    """All that is unsafe with `RELAY_ENV=production`, one line each, naming the variable and never
    its value.
    """
    problems = []
    if not is_secret_key_set:
        problems.append("SECRET_KEY: production needs its own (SECRET_KEY or SECRET_KEY_FILE)")
    elif len(secret_key) < MIN_SECRET_KEY_CHARS or len(set(secret_key)) < 5:
        problems.append(
            f"SECRET_KEY: too weak for production; {MIN_SECRET_KEY_CHARS} random characters or more"
        )
    if is_debug:
        problems.append("DEBUG: must be off in production: its error pages show settings")
    if not are_hosts_set:
        problems.append("RELAY_ALLOWED_HOSTS: production needs the host names customers use")
    elif "*" in allowed_hosts:
        problems.append("RELAY_ALLOWED_HOSTS: '*' accepts forged Host headers; name the hosts")
    if is_sqlite:
        problems.append("DATABASE_URL: production needs MySQL or MariaDB, not SQLite")
    if not is_redis_set:
        problems.append("REDIS_URL: production needs its own Redis, not the embedded one")
    if any(upstream.strip().startswith("simulator:") for upstream in upstreams.split(",")):
        problems.append("RELAY_UPSTREAMS: the simulator is no upstream for production")
    if is_signup_open and not is_mail_set:
        problems.append("EMAIL_URL: RELAY_SIGNUP is on, and who signs up proves an e-mail address")
    if is_signup_open and not public_url.startswith("https://"):
        problems.append("RELAY_PUBLIC_URL: RELAY_SIGNUP is on, and mails link to it: https://…")
    return problems
