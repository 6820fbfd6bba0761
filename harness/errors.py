"""What can go wrong in a way that the person at the keyboard can mend.

HarnessError
├── InvalidInput        a file or an option that cannot be used; exit code 2
│   └── InvalidFile     every problem of one file, each with its place
├── CouldNotRun         engine, system or load did not come up; exit code 5
│   ├── ServiceNotReady one service; carries its last log lines
│   ├── MissingPart     a program or wheel that is not installed; says how to get it
│   ├── ServiceFaultFailed  a fault on a service itself could not be set, or not be taken back
│   ├── ProxyError      the proxy engine refused, answered nonsense, or did not answer
│   ├── LoadError       Locust did not start, or stopped by itself
│   └── CannotRecord    the run's folder cannot be written to; an OSError too
└── UnreadableRun       a run's folder that cannot be judged; exit code 2

Anything else that is raised is a defect of the harness: it keeps its traceback and exits with 5.
"""

from __future__ import annotations

from dataclasses import dataclass


class HarnessError(Exception):
    """Something a person can act on. Its message says what was expected, what was found, what to do."""


class InvalidInput(HarnessError):
    """What the user gave cannot be used."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with one file. `line` and `column` count from 1; 0 where there is no such place."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class InvalidFile(InvalidInput):
    """Everything that is wrong with the files that were read, at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CouldNotRun(HarnessError):
    """Engine, system or load did not come up."""


class ServiceNotReady(CouldNotRun):
    """A service of the system did not become ready."""

    def __init__(self, service: str, reason: str, log: tuple[str, ...] = ()) -> None:
        self.service, self.reason, self.log = service, reason, log
        tail = "".join(f"\n    {line}" for line in log) if log else "\n    (it wrote no log)"
        super().__init__(f"service {service} did not come up: {reason}; its last log lines:{tail}")


class MissingPart(CouldNotRun):
    """A program or package that a run needs is not installed."""


class ProxyError(CouldNotRun):
    """The proxy engine refused, answered nonsense, or did not answer in time."""


class ServiceFaultFailed(CouldNotRun):
    """A fault on a service itself could not be set, or not be taken back."""


class LoadError(CouldNotRun):
    """Locust did not start, or ended before it was told to."""


class CannotRecord(CouldNotRun, OSError):
    """What happens cannot be written to the run's folder, such as where its disk is full."""


class InvalidLocustfile(InvalidInput):
    """The user's locustfile does not import, or defines no user."""


class UnreadableRun(InvalidInput):
    """A run's folder lacks what is needed to judge it."""
