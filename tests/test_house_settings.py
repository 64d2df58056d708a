"""Settings are read with their types, and all that is wrong with them is said at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_site import redis_urls
from relay_site.environment import Environment
from relay_site.production import production_problems
from relay_site.secrets import keep_secret, write_private
from tests.support.relay import ROOT


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One management command in a clean environment."""
    kept = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_problem_at_once() -> None:
    """A read never raises; each problem begins with its variable's name."""
    env = Environment(
        {
            "PORT": "http",
            "LOW": "0",
            "RATIO": "nan",
            "SWITCH": "true ",
            "WORD": "maybe",
            "HOST": "a b",
            "DB": "postgres://u:topsecret@h/n",
            "PROXIES": "10.0.0.1/8, proxy.example",
            "MAIL": "smtp://u:topsecret@:25",
        }
    )
    assert env.port("PORT", default=8000) == 8000
    assert env.port("LOW", default=8000) == 8000
    assert env.number("RATIO", default=1.5, least=0, most=9) == 1.5
    assert env.switch("SWITCH", default=False) is False
    assert env.choice("WORD", of=("yes", "no"), default="no") == "no"
    assert env.host("HOST", default="127.0.0.1") == "127.0.0.1"
    assert env.database("DB", default={"ENGINE": "e"}) == {"ENGINE": "e"}
    assert env.networks("PROXIES") == ["10.0.0.0/8"]
    assert env.mail("MAIL", default="smtp://h:25")["EMAIL_HOST"] == "h"
    names = [problem.partition(":")[0] for problem in env.problems]
    assert names == ["PORT", "LOW", "RATIO", "SWITCH", "WORD", "HOST", "DB", "PROXIES", "MAIL"]
    assert "topsecret" not in "".join(env.problems)


def test_empty_is_unset() -> None:
    """`NAME=` in a unit file means the default."""
    env = Environment({"RELAY_A": "", "PORT": ""})
    assert env.text("RELAY_A", "x") == "x"
    assert env.port("PORT", default=8000) == 8000
    assert not env.is_set("RELAY_A")
    assert env.problems == []


def test_secret_from_file(tmp_path: Path) -> None:
    """`NAME_FILE` is read without its last newline; beside `NAME` it is a contradiction."""
    (tmp_path / "pepper").write_text("$s3cret with $igns\n")
    env = Environment({"PEPPER_FILE": str(tmp_path / "pepper")})
    assert env.text("PEPPER") == "$s3cret with $igns"
    assert env.is_set("PEPPER")
    twice = Environment({"PEPPER": "x", "PEPPER_FILE": str(tmp_path / "pepper")})
    twice.text("PEPPER")
    absent = Environment({"PEPPER_FILE": str(tmp_path / "none")})
    assert absent.text("PEPPER", "default") == "default"
    assert [len(env.problems), len(twice.problems), len(absent.problems)] == [0, 1, 1]


def test_unknown_names_of_ours_warn() -> None:
    """A misspelt setting is not silent; somebody else's variables are not our business."""
    env = Environment({"RELAY_HTTP_PROT": "1", "RELAY_HTTP_PORT": "80", "HOME": "/"})
    env.port("RELAY_HTTP_PORT", default=8000)
    env.warn_of_unknown()
    assert env.warnings == ["RELAY_HTTP_PROT: unknown setting, ignored"]
    assert env.problems == []


@pytest.mark.parametrize(
    ("url", "celery"),
    [
        ("redis://h:6379/1", "redis://h:6379/1"),
        ("rediss://u:p%40@h/0", "rediss://u:p%40@h/0"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock"),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"),
    ],
)
def test_redis_spellings(url: str, celery: str) -> None:
    """redis-py's spelling and Celery's are two forms of one address, both ways."""
    assert redis_urls.parse(url) == url
    assert redis_urls.for_celery(url) == celery
    assert redis_urls.parse(celery) == url
    assert redis_urls.for_channels(url) == {"address": url, "socket_timeout": None}


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://", "redis://h:x/0", "redis://h/zero", "unix://relative",
     "unix:///" + "x" * 107],
)  # fmt: skip
def test_bad_redis_addresses(url: str) -> None:
    """They are refused when the settings are read, not at the first message."""
    with pytest.raises(redis_urls.BadRedisURL):
        redis_urls.parse(url)


def test_password_is_not_shown() -> None:
    """What goes into a log line has no password."""
    assert redis_urls.without_password("redis://u:topsecret@h:1/0") == "redis://…@h:1/0"
    assert redis_urls.without_password("redis://h:1/0") == "redis://h:1/0"


@given(st.integers(min_value=1, max_value=300))
def test_socket_fits(length: int) -> None:
    """However deep the folder, the socket's path fits, and it is always the same one."""
    var = Path("/" + "x" * length)
    path = redis_urls.embedded_socket(var)
    assert len(os.fsencode(path)) <= redis_urls.MAX_SOCKET_PATH_BYTES
    assert path == redis_urls.embedded_socket(var)


def test_production_refuses_every_unsafe_default() -> None:
    """All of them in one go, each naming its variable; a sound configuration has none."""
    unsafe = production_problems(
        is_secret_key_set=False,
        secret_key="",
        is_debug=True,
        are_hosts_set=True,
        allowed_hosts=["*"],
        is_sqlite=True,
        is_redis_set=False,
        upstreams="simulator:",
        is_signup_open=True,
        is_mail_set=False,
        public_url="http://relay.example",
    )
    names = [problem.partition(":")[0] for problem in unsafe]
    assert names == [
        "SECRET_KEY",
        "DEBUG",
        "RELAY_ALLOWED_HOSTS",
        "DATABASE_URL",
        "REDIS_URL",
        "RELAY_UPSTREAMS",
        "EMAIL_URL",
        "RELAY_PUBLIC_URL",
    ]
    safe = production_problems(
        is_secret_key_set=True,
        secret_key="".join(chr(33 + i) for i in range(60)),
        is_debug=False,
        are_hosts_set=True,
        allowed_hosts=["relay.example"],
        is_sqlite=False,
        is_redis_set=True,
        upstreams="node:///hl/data?info=http://127.0.0.1:3001",
        is_signup_open=True,
        is_mail_set=True,
        public_url="https://relay.example",
    )
    assert safe == []


def test_any_process_refuses_bad_settings(tmp_path: Path) -> None:
    """Not only `up`: each exits with 2 and a line for each problem, and no traceback."""
    done = manage("run_upstream", RELAY_VAR=str(tmp_path), RELAY_ENV="production", REDIS_URL="x:")
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert {line.partition(":")[0] for line in lines} >= {"SECRET_KEY", "REDIS_URL", "DATABASE_URL"}


def test_secret_is_made_once(tmp_path: Path) -> None:
    """Made on first use, kept, and readable by its owner alone."""
    path = tmp_path / "secrets" / "key"
    first = keep_secret(path)
    assert len(first) == 64
    assert keep_secret(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_private_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new text or the old one, mode 0600, no draft left."""
    path = tmp_path / "run.json"
    path.write_text("old")
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
