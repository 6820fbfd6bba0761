"""The table of what the contract suites found says no more than they found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.recording import FAILED, NOT_FOOLED, compare, write_engines

OLD = {
    "engines": {"renamed": {"embedded": "passed"}, "latency": {"toxiproxy": "passed"}},
    "runtimes": {"kill": {"local": "passed"}},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "matrix.json"
    path.write_text(json.dumps(OLD), "utf-8")
    return path


def test_a_table_is_written_anew_and_what_was_not_told_whole_has_failed(file: Path) -> None:
    found = {
        ("latency", "embedded"): {"passed", NOT_FOOLED},
        ("flap", "embedded"): {"passed"},
        ("flap", "toxiproxy"): {NOT_FOOLED},
        ("http_error", "toxiproxy"): {"cannot: it sees no requests", NOT_FOOLED},
    }

    write_engines(file, ["latency", "flap", "http_error"], ("embedded", "toxiproxy"), found)

    assert json.loads(file.read_text("utf-8")) == {
        "engines": {
            "latency": {"embedded": "passed", "toxiproxy": FAILED},
            "flap": {"embedded": FAILED, "toxiproxy": FAILED},
            "http_error": {"embedded": FAILED, "toxiproxy": "cannot: it sees no requests"},
        },
        "runtimes": OLD["runtimes"],
    }


@pytest.mark.parametrize(("row", "what"), [("latency", "cannot: no"), ("new", "passed")])
def test_what_is_found_and_not_kept_is_a_failure(file: Path, row: str, what: str) -> None:
    compare("engines", "latency", "toxiproxy", "passed", file)

    with pytest.raises(AssertionError, match="record it anew"):
        compare("engines", row, "toxiproxy", what, file)
