"""Which pages there are, in which order, and where their text is: the one list of them.

A page's address is `/docs/<language>/<slug>/`. Two parts behind `/docs`, because `/docs/exchange`
is how a customer whose key is `docs` would trade: doors look at what follows a path's first part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

ENGLISH = "en"
CHINESE = "zh-hant"
#: By code: what a language calls itself.
LANGUAGES = {ENGLISH: "English", CHINESE: "繁體中文"}


class Page(NamedTuple):
    """One page: its address, its English text from the repository's root, and its name in the side
    navigation by language."""

    slug: str
    source: str
    english: str
    chinese: str

    def title(self, language: str) -> str:
        """What the navigation calls it."""
        return self.chinese if language == CHINESE else self.english


class Section(NamedTuple):
    """A group of the side navigation."""

    english: str
    chinese: str
    pages: tuple[Page, ...]

    def title(self, language: str) -> str:
        """What the navigation calls it."""
        return self.chinese if language == CHINESE else self.english


def _page(slug: str, english: str, chinese: str, source: str = "") -> Page:
    return Page(slug, source or f"docs/{slug}.md", english, chinese)


SECTIONS = (
    Section(
        "Start",
        "開始使用",
        (
            _page("", "Overview", "總覽", "docs/index.md"),
            _page("quickstart", "Quickstart", "快速開始"),
            _page("migrating", "Migrating to it", "遷移指南"),
            _page("faq", "Questions", "常見問題"),
        ),
    ),
    Section(
        "Streams",
        "資料串流",
        (
            _page("guarantees", "What you can rely on", "保證事項"),
            _page("dialects", "Which dialect", "選擇方言"),
            _page("relay-dialect", "The relay dialect", "Relay 方言"),
            _page("grpc", "gRPC", "gRPC"),
            _page("python", "Python package", "Python 套件", "clients/python/README.md"),
            _page("limits", "Limits and close codes", "限制與關閉碼"),
            _page("race", "Racing two endpoints", "端點競速"),
            _page("status", "Status page", "狀態頁"),
        ),
    ),
    Section(
        "HTTP",
        "HTTP",
        (
            _page("http", "/info and /evm", "/info 與 /evm"),
            _page("exchange", "Trading", "交易"),
            _page("api", "Account API", "帳戶 API"),
        ),
    ),
    Section(
        "Account",
        "帳戶",
        (
            _page("api", "The account API", "帳戶 API"),
            _page("usage", "What is counted", "用量計算"),
            _page("receipts", "Usage receipts", "用量收據"),
            _page("webhooks", "Webhooks", "Webhook 通知"),
        ),
    ),
    Section(
        "For operators",
        "營運者",
        (
            _page("prices", "Price documents", "價格文件"),
            _page("finance", "Finance", "財務"),
        ),
    ),
    Section(
        "Design",
        "設計文件",
        (
            _page("design/hl-relay-architecture", "Architecture", "整體架構"),
            _page("design/relay-core-design", "The relay core", "Relay 核心"),
            _page("design/control-plane-design", "The control plane", "控制平面"),
        ),
    ),
    Section("More", "其他", (_page("changelog", "Changelog", "更新紀錄", "CHANGELOG.md"),)),
)
#: Beside images and the like of docs/ itself, what pages link to and customers need: name → path.
FILES = {
    "relay.proto": "gateway/grpc/protos/hlrelay/v1/relay.proto",
    "race.py": "clients/python/hlrelay/race.py",
}
#: Of docs/ itself.
FILE_TYPES = {
    ".json": "application/json",
    ".png": "image/png",
    ".proto": "text/plain; charset=utf-8",
    ".py": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}


def root() -> Path:
    """The repository's folder."""
    return Path(settings.BASE_DIR)


def all_pages() -> Iterator[Page]:
    """Every page, in the order of reading."""
    for section in sections():
        yield from section.pages


@cache
def sections() -> tuple[Section, ...]:
    """The groups with the pages whose text is there: a room may come after its place in the
    list."""
    return tuple(
        section._replace(pages=tuple(p for p in section.pages if (root() / p.source).is_file()))
        for section in SECTIONS
    )


@cache
def by_slug() -> dict[str, Page]:
    """Page by the end of its address."""
    return {page.slug: page for page in all_pages()}


@cache
def by_source() -> dict[str, Page]:
    """Page by its text's path, of each language."""
    english = {page.source: page for page in all_pages()}
    return english | {translated(page.source): page for page in all_pages()}


@cache
def files() -> dict[str, Path]:
    """What is served beside pages: name → path."""
    own = {
        path.name: path
        for path in sorted((root() / "docs").iterdir())
        if path.suffix in FILE_TYPES and path.is_file()
    }
    return own | {name: root() / path for name, path in FILES.items()}


def translated(source: str) -> str:
    """Where a page's Traditional Chinese text would be."""
    name = source.removeprefix("docs/") if source.startswith("docs/") else source.lower()
    return f"docs/{CHINESE}/{name}"


def text_of(page: Page, language: str) -> tuple[Path, bool]:
    """Where a page's text is, and whether it is in the language asked for."""
    if language != ENGLISH:
        path = root() / translated(page.source)
        return (path, True) if path.is_file() else (root() / page.source, False)
    return root() / page.source, True


def neighbours(page: Page) -> tuple[Page | None, Page | None]:
    """The page before, and the next."""
    pages = list(all_pages())
    place = pages.index(page)
    before = pages[place - 1] if place else None
    return before, pages[place + 1] if place + 1 < len(pages) else None
