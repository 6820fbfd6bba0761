"""What is told of the containers of a run."""

from __future__ import annotations

from harness.runtime.containers.project import Project


class FakeEngine:
    """A client with one container that has written these lines."""

    def __init__(self, *lines: str) -> None:
        self.api, self.lines = self, lines

    def logs(self, _container: str, *, tail: int) -> bytes:
        return "\n".join(self.lines[-tail:]).encode()


def test_of_a_key_within_which_a_container_ended_no_line_is_told() -> None:
    engine = FakeEngine("starting", "-----BEGIN PRIVATE KEY-----", *["MIIEvQIBADANBgkqhkiG9w0B"] * 50)

    assert Project(engine, "chaos-test").log_tail("order") == ("starting", "***")


def test_no_more_lines_are_told_than_were_asked_for() -> None:
    engine = FakeEngine(*[f"line {number}" for number in range(300)])

    assert Project(engine, "chaos-test").log_tail("order", 2) == ("line 298", "line 299")
