"""Fixtures for everybody: real servers once per session, the recorded data, the whole relay."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest import runner
from _pytest.unraisableexception import collect_unraisable
from django.conf import settings as site
from django.test import Client
from django.utils import translation
from hypothesis import HealthCheck, settings
from xdist.scheduler.loadfile import LoadFileScheduling

from tests.support import guards, pages
from tests.support.environment import VAR
from tests.support.migrated import copy_migrated
from tests.support.relay import RunningRelay
from tests.support.services import Missing, Service, start_mariadb, start_redis
from tests.support.stack import with_room
from tests.tenants.cast import Cast, make_cast, operator_client

# A shared, loaded machine makes single examples slow now and then; the suite's own timeout bounds
# the whole. The gate looks at the same examples each time, so that a commit passes it or does not;
# everybody else's run looks at new ones.
settings.register_profile(
    "relay",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("relay")
guards.lift_for_flushes()
guards.keep_what_migrate_leaves()
# A quarter second of a core for each user that is made, which no test is about; the last of the
# list still reads what is hashed with it.
site.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *site.PASSWORD_HASHERS]
pages.find_static_once()
pages.keep_contexts_of_pages()
# All that is collected stays: garbage is looked for from then on (`pytest_collection_finish`).
gc.disable()


#: Who ask for `running_relay`. It ends with the last of them: a quiet one takes a fifth of a core.
OF_RELAY = (
    "tests/clients/",
    "tests/docsite/test_quickstart.py",
    "tests/docsite/test_race.py",
    "tests/docsite/test_snippets_parse.py",
    "tests/gateway/grpc/test_rebuilt_books.py",
    "tests/gateway/grpc/test_whole_relay.py",
)
#: Who ask for `site`, the relay with a browser.
OF_SITE = tuple(
    f"tests/dashboard/test_{name}.py"
    for name in (
        "console", "frame", "journeys", "live", "money_journeys", "people_journeys",
        "public_pages", "screens", "usage_pages",
    )
)  # fmt: skip
#: Files that share what takes long to start, and much to keep: a rig, a relay, one with a browser.
TOGETHER = (("tests/journeys/test_r",), OF_RELAY, OF_SITE)
#: What takes longest, which `-n` begins with: else one process has it all to itself at the end.
LONGEST_FIRST = (
    "tests/journeys/test_r",
    *OF_SITE,
    "tests/journeys/test_what_was_delivered",
    "tests/journeys/test_a_recorded_feed",
    *OF_RELAY,
)


class Scheduling(LoadFileScheduling):
    """By file, in the order of collection; those that share something are as one file."""

    def _split_scope(self, nodeid: str) -> str:
        for names in TOGETHER:
            if nodeid.startswith(names):
                return names[0]
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """What `-n` hands out together."""
    config.option.loadscopereorder = False  # by the number of tests, which says nothing here
    return Scheduling(config, log)


def _is_of_relay(item: pytest.Item) -> bool:
    return item.nodeid.startswith(OF_RELAY)


def _end_relay(item: Any) -> None:
    """Earlier than its scope, the session, ends; who asks for it later gets one started anew."""
    for relay in item.session._fixturemanager.getfixturedefs("running_relay", item) or ():
        relay.finish(item._request)


def _rank(item: pytest.Item) -> int:
    ranks = (n for n, name in enumerate(LONGEST_FIRST) if item.nodeid.startswith(name))
    return next(ranks, len(LONGEST_FIRST))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Mark what touches the database, by mark or by fixture, as `database`, before `-m` chooses;
    and put the longest first, after pytest-django has put what touches the database first."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        for shared, those in (("running_relay", OF_RELAY), ("site", OF_SITE)):
            if shared in fixtures and not item.nodeid.startswith(those):
                raise pytest.UsageError(f"{item.nodeid} asks for {shared}: name it in TOGETHER")
        if item.get_closest_marker("any_database"):
            continue
        if item.get_closest_marker("django_db") or fixtures & {"db", "transactional_db"}:
            item.add_marker("database")
    yield
    if hasattr(config, "workerinput"):  # of pytest-xdist
        items.sort(key=_rank)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The few that go alone need not all others to be imported."""
    if config.option.markexpr == "alone" and collection_path.match("test_*.py"):
        return "pytest.mark.alone" not in collection_path.read_text("utf-8") or None
    return None


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make, less often than Python would: a sixth of the suite
    went into walks through all the modules there are."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """As pytest does it, with room."""
    return with_room(lambda: runner.pytest_runtest_protocol(item, nextitem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """What a failed test's frames hold open is told of with that test, and not with whichever runs
    when it is collected; the shared relay ends when the next test is not about it."""
    yield
    if _is_of_relay(item) and not (nextitem is not None and _is_of_relay(nextitem)):
        _end_relay(item)
    if getattr(sys, "last_traceback", None) is not None:  # of this test's call: each one clears it
        del sys.last_type, sys.last_value, sys.last_traceback
        gc.collect()
        collect_unraisable(item.config)


def skip(reason: str) -> None:
    """Skip visibly, or fail where nothing may be missing (`CI` set)."""
    if os.environ.get("CI"):
        pytest.fail(f"missing with CI set: {reason}", pytrace=False)
    pytest.skip(reason)


def _start(start: Callable[[], Service]) -> Service:
    try:
        return start()
    except Missing as missing:
        skip(str(missing))
        raise


@pytest.fixture(autouse=True)
def _no_language_is_left() -> Iterator[None]:
    """A request of the test client leaves its language to whoever comes next in this process; a
    server's requests have contexts of their own."""
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings: None) -> bool:
    """On SQLite the test database begins as a copy that is migrated, which `migrate` then looks at;
    it goes with the run's folder."""
    database = site.DATABASES["default"]
    if not site.IS_SQLITE:
        return False
    copy_migrated(Path(database["TEST"]["NAME"]))
    return True


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Service]:
    """A private Redis, also at the unix socket that `settings.REDIS_URL` names in tests."""
    service = _start(lambda: start_redis(VAR / "redis", socket=VAR / "redis.sock"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def redis_url(redis_server: Service) -> str:
    """`redis://127.0.0.1:PORT/0` of the session's Redis."""
    return redis_server.url


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Service]:
    """A private MariaDB for tests that want one whatever the suite runs on."""
    service = _start(lambda: start_mariadb(VAR / "mariadb-fixture", in_memory=True))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def mariadb_url(mariadb_server: Service) -> str:
    """`mysql://relay:relay@127.0.0.1:PORT/relay` of the session's MariaDB."""
    return mariadb_server.url


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of recorded data."""
    named = os.environ.get("RELAY_TEST_DATA", "")
    if not named:
        pytest.skip("RELAY_TEST_DATA is not set: no recorded data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"RELAY_TEST_DATA={named}: no such folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def running_relay() -> Iterator[RunningRelay]:
    """The whole relay as `manage.py up` starts it, on free ports and in a folder of its own."""
    # A customer of a test has their server on this machine.
    relay = RunningRelay(VAR / "relay", RELAY_WEBHOOKS_PRIVATE="1")
    relay.start()
    yield relay
    relay.stop()


@pytest.fixture(scope="session")
def relay(running_relay: RunningRelay) -> dict[str, Any]:
    """What its run.json says: `http`, `ws`, `api_key`, `admin_url`, …"""
    return running_relay.run


@pytest.fixture
def cast(db: None) -> Cast:
    """Acme and the others, in a transaction that is rolled back."""
    return make_cast()


@pytest.fixture
def committed_cast(transactional_db: None) -> Cast:
    """The same, committed, for tests in which other threads or processes look."""
    return make_cast()


@pytest.fixture
def operator(db: None, settings: Any, tmp_path: Path) -> Client:
    """A browser in which an operator is logged in."""
    settings.STATIC_ROOT = str(tmp_path)  # WhiteNoise warns of a folder that is not there
    return operator_client()


def pytest_runtest_setup() -> None:
    """`py_ecc`, which comes with eth-account, lets the whole process recurse 100,000 deep; no
    process of ours but the simulator loads it."""
    if sys.getrecursionlimit() > 10_000:
        sys.setrecursionlimit(1_000)
