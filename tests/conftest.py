"""What tests of every suite share: how many examples a property is tried with, and why the Docker suite is skipped.

Properties are tried with few examples each time and with many at night (`make nightly`): most tests wait, these compute. How long one takes
on a busy machine is not what is tried.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=400, deadline=None)
settings.load_profile("quick")

for number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        # by `nohup` or `&`: the tests go on, and only what is ignored, not what is caught, would be so in what they start, too
        signal.signal(number, lambda _number, _frame: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-faults", metavar="FILE", help="write what came out of every kind of fault to this file")


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests are noted apart from those of whoever works on this machine, and nobody's stop file ends them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("CHAOS_STATE_DIR", str(folder))
        changed.setenv("CHAOS_STOP_FILE", str(folder / "stop"))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("docker")]
    why = why_no_docker() if marked else None
    for item in marked:
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=why))


def why_no_docker() -> str | None:
    """Why nothing can be brought up on Docker here; None where it can."""
    from harness.errors import MissingPart
    from harness.runtime.containers.engine import find_engine

    try:
        find_engine(os.environ)
    except MissingPart as missing:
        return str(missing)
    return None
