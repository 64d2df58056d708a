"""What the layers below refuse, pages show to customers in their language: each such text is marked
for translation where it is raised. Read from syntax trees, so that a new one cannot be forgotten.

`test_translation.py` then wants a translation of each, and `test_refusals_spoken.py` hears them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.account import errors
from tests.dashboard.test_translation import MARKS, ROOT

#: Exceptions whose text a page shows. Another one that a page catches to show fails below.
SHOWN = {
    *(name for name, one in vars(errors).items() if isinstance(one, type)),
    *(
        "ValidationError",
        "PermissionDenied",
        "MovedError",
        "DoneError",
        "UnknownExport",
        "Said",
        "TargetRefused",
    ),
}
#: Of the many ValueErrors those that end up in one of the above, by module.
VALUE_ERRORS = {
    "billing/exports/scope.py",
    "gateway/requests/selectors.py",
}
#: What says a text in a page by itself, and which of its arguments that is.
SAYS = {"error": 1, "success": 1, "info": 1, "warning": 1, "add_error": 1, "refused": 1, "toast": 1}
#: Rooms whose refusals customers can meet.
ROOMS = ("billing", "gateway/account", "gateway/dashboard", "gateway/requests", "tenants")
#: Of them what only operators and programs meet, in English: functions, by module. Their admin's
#: modules are left out as such.
ENGLISH: dict[str, set[str]] = {
    "billing/catalogue/grants.py": {"set_own_terms", "end_own_terms", "end_discount"},
    "billing/catalogue/wallet.py": {"enter"},
    "billing/invoicing/forms.py": {"clean"},
    "tenants/admission/errors.py": {"Unavailable"},
    "tenants/models/admission.py": {"validate_words"},
    "tenants/people/closing.py": {"reopen_tenant"},
    "tenants/people/factors.py": {"reset_factors"},
    "tenants/people/looking.py": {"begin_view"},
    "tenants/services.py": {"schedule_suspension", "resume_tenant"},
}
#: Text of a message that is no text for people: a field's name before it, commas, brackets.
_NO_WORDS = re.compile(r"(?:[a-z_]+(?:: |\[))?[^A-Za-z]*\Z")


Within = tuple[ast.FunctionDef | ast.ClassDef, ...]


def _modules() -> list[Path]:
    found = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    left_out = {"admin", "management", "migrations"}
    return [
        path
        for path in found
        if not left_out.intersection(path.parts) and not path.stem.endswith("admin")
    ]


TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in _modules()
}
#: Of these rooms, by name: what is called for a text may be one.
FUNCTIONS = {
    node.name: node
    for tree in TREES.values()
    for node in tree.body
    if isinstance(node, ast.FunctionDef)
}
#: Constants of these rooms, by name: what is said may be one.
CONSTANTS = {
    target.id: node.value
    for tree in TREES.values()
    for node in tree.body
    if isinstance(node, ast.Assign)
    for target in node.targets
    if isinstance(target, ast.Name)
}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _said(module: str, node: ast.AST, within: Within = ()) -> Iterator[tuple[Within, ast.expr]]:
    """Every text that is said in a part of a module, with the functions that it stands in."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        within = (*within, node)
    if isinstance(node, ast.Call):
        name = _name(node.func)
        is_init = name == "__init__" and any(one.name in SHOWN for one in within)
        if is_init or name in SHOWN or (name == "ValueError" and module in VALUE_ERRORS):
            yield from ((within, one) for one in node.args[:1])
        elif name in SAYS and _is_of_pages(module, node.func):
            yield from ((within, one) for one in node.args[SAYS[name] :][:1])
    for child in ast.iter_child_nodes(node):
        yield from _said(module, child, within)


def _is_of_pages(module: str, func: ast.expr) -> bool:
    of = _name(func.value) if isinstance(func, ast.Attribute) else ""
    return of != "log" and module.startswith(("gateway/dashboard", "tenants"))


def _unmarked(node: ast.AST, within: Within) -> Iterator[str]:
    """Words in an expression that no mark encloses; values that are put into a text aside. Names
    and calls are followed to what they are in the same function, and in these rooms."""
    match node:
        case ast.Call(func=func) if _name(func) in MARKS:
            return
        case ast.Compare():
            return
        case ast.Dict(values=values):  # texts by the field that they are about
            for one in values:
                yield from _unmarked(one, within)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            for one in ast.walk(FUNCTIONS[name]):
                if isinstance(one, ast.Return) and one.value is not None:
                    yield from _unmarked(one.value, (FUNCTIONS[name],))
        case ast.Name(id=name, ctx=ast.Load()) if within and not name.isupper():
            for one in ast.walk(within[-1]):
                is_it = isinstance(one, ast.NamedExpr) and one.target.id == name
                if is_it or (isinstance(one, ast.Assign) and name in map(_name, one.targets)):
                    yield from _unmarked(one.value, ())  # type: ignore[attr-defined]
        case ast.BinOp(op=ast.Mod(), left=left):
            yield from _unmarked(left, within)
        case ast.Constant(value=str() as text):
            if not _NO_WORDS.match(text):
                yield text
        case ast.Name() | ast.Attribute() if _name(node).isupper() and _name(node) in CONSTANTS:
            yield from _unmarked(CONSTANTS[_name(node)], ())
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _unmarked(child, within)


@pytest.mark.parametrize("module", sorted(TREES))
def test_what_is_refused_is_marked(module: str) -> None:
    found = [
        f"{module}:{text.lineno}: {words!r}"
        for within, text in _said(module, TREES[module])
        if not any(one.name in ENGLISH.get(module, ()) for one in within)
        for words in _unmarked(text, within)
    ]
    assert not found, "write raise …(_(…)), with gettext as _"


def test_what_is_left_in_english_is_there() -> None:
    for module, names in ENGLISH.items():
        there = {
            one.name
            for one in ast.walk(TREES[module])
            if isinstance(one, ast.FunctionDef | ast.ClassDef)
        }
        assert names <= there, f"{module}: {names - there}"


def test_what_a_page_catches_to_show_is_looked_at() -> None:
    """`except X as error` in a page, and X is none of those above."""
    handlers = [
        (module, node)
        for module, tree in TREES.items()
        if module.startswith("gateway/dashboard/") or module == "tenants/people/views.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.name
    ]
    assert len(handlers) > 30
    for module, node in handlers:
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {_name(one) for one in kinds if one is not None}
        assert names <= SHOWN | {"ValueError"}, f"{module}:{node.lineno}: {names - SHOWN}"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('raise BadValue("limit: too much.")', ["limit: too much."]),
        ('raise ValidationError(f"{name} is none.", code="x")', [" is none."]),
        ('raise Conflict(" ".join(error.messages))', []),
        ('raise BadValue(f"spend_cap: {error}")', []),
        ('raise NotFound(_("There is no key %(id)s.") % {"id": "none at all"})', []),
        ('why = "It is gone."\nraise NotFound(why)', ["It is gone."]),
        ('why = _("It is gone.")\nraise NotFound(why)', []),
        ('messages.error(request, "That was wrong.")', ["That was wrong."]),
        ('class BadCursor(E):\n def f(self): super().__init__("Not one.")', ["Not one."]),
    ],
)
def test_the_reading_finds_what_is_not_marked(written: str, words: list[str]) -> None:
    module = "tenants/services.py"
    tree = ast.parse("def f():\n" + "\n".join(f"  {line}" for line in written.splitlines()))
    found = [one for within, text in _said(module, tree) for one in _unmarked(text, within)]
    assert found == words
