"""The arrows between the layers, read from every import of the package, hidden ones too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harness"

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "plan": {"errors", "model"},
    "history": {"errors"},
    "judge": {"errors", "model", "history"},
    "report": {"errors", "model", "history", "judge"},
    "runtime": {"errors", "model", "plan", "history"},
    "experiment": {"errors", "model", "plan", "history", "judge", "report", "runtime"},
    "cli": {"errors", "model", "plan", "history", "judge", "report", "runtime", "experiment"},
}
"""What each layer may import beside itself and the package's version."""

PLACED = {
    "proof": "experiment",
    "calibration": "experiment",
    "machine": "cli",
    "saying": "cli",
    "standard_streams": "cli",
    "terminal": "cli",
    "__main__": "cli",
    "__init__": "errors",
}
"""Modules beside the layers' own, and the layer each belongs to."""

THIRD_PARTY: dict[str, set[str]] = {
    "errors": set(),
    "model": {"pydantic", "pydantic_core", "yaml"},
    "plan": {"pydantic"},
    "history": {"numpy", "pyarrow"},
    "judge": {"numpy"},
    "report": {"jinja2", "markupsafe", "numpy", "rich"},
    "runtime": {
        "asyncpg",
        "docker",
        "gevent",
        "geventhttpclient",
        "httptools",
        "locust",
        "psutil",
        "requests",
        "toxiproxy",
        "urllib3",
        "uvloop",
    },
    "experiment": set(),
    "cli": {"click", "rich"},
}

STANDARD = set(__import__("sys").stdlib_module_names)


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return PLACED.get(first, first)


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            if node.module == "harness":
                yield from (f"harness.{alias.name}" for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_goes_along_the_arrows(path: Path) -> None:
    layer = layer_of(path)
    allowed = LAYERS[layer] | {layer}

    for name in imports_of(path):
        first, *rest = name.split(".")
        if first == "harness":
            target = PLACED.get(rest[0], rest[0]) if rest else "errors"
            assert target in allowed or rest == ["__version__"], f"{layer} must not import {name}"
        else:
            assert first in STANDARD or first in THIRD_PARTY[layer], f"{layer} must not import {name}"


def test_locust_is_imported_by_what_runs_inside_it_alone() -> None:
    importing = {
        path.name
        for path in FILES
        if any(name.split(".")[0] in ("locust", "gevent", "geventhttpclient") for name in imports_of(path))
    }

    assert importing <= {path.name for path in (PACKAGE / "runtime" / "load").glob("*.py")}
    assert "locust.py" not in importing


def test_only_the_command_line_prints() -> None:
    printing = [
        path.relative_to(PACKAGE)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert printing == []


def test_whatever_is_said_is_made_harmless_to_a_terminal_first() -> None:
    past_it = [
        path.name
        for path in (PACKAGE / "cli.py", PACKAGE / "terminal.py", *PACKAGE.glob("cli_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("echo", "secho", "print_exc")
    ]

    assert past_it == []


def test_every_module_says_why_it_exists() -> None:
    silent = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert silent == []
