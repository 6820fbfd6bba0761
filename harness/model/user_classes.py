"""The classes that a locustfile can have, as far as its text tells: it is read, and never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

UNKNOWABLE = ("exec", "eval", "globals", "vars", "setattr", "type", "__import__", "import_module")
"""Whoever calls one of these may make a class of any name."""


def classes_of(locustfile: Path) -> frozenset[str] | None:
    """Every name that a locustfile may give a class; None where nobody can know."""
    try:
        return classes_in(locustfile.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):  # whoever runs it says what is wrong with it
        return None


def classes_in(text: str) -> frozenset[str] | None:
    """Every name that the file may give a class; None where nobody can know, or it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what its author may have to hear is not said here
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        if _is_unknowable(node):
            return None
        found.update(_named_by(node))
    return frozenset(found)


def _is_unknowable(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in UNKNOWABLE


def _named_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
