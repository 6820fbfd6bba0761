"""What a run showed: findings, each with one of three outcomes, and the verdict they add up to.

Plain frozen data, written to `verdict.json`; judging the same history again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Literal, TypeAlias

VERSION = 1


class Outcome(IntEnum):
    """How one expectation came out; a larger one outweighs a smaller."""

    PASSED = 0
    INCONCLUSIVE = 1
    FAILED = 2

    @property
    def word(self) -> str:
        """The outcome as it is written for people and machines."""
        return self.name.lower()


Unit: TypeAlias = Literal["share", "seconds", "ratio", "rows", "points"]


@dataclass(frozen=True, slots=True)
class Measure:
    """An observed value with its 95 % interval against a limit; what the little picture beside a finding shows.

    `bound` says on which side of `limit` the allowed zone lies: `max` below it, `min` above it. In the unit
    `points` and `share` 0.05 is 5 (percentage points, per cent); in `seconds` 0.05 is 50 ms.
    """

    unit: Unit
    observed: float | None
    low: float | None
    high: float | None
    limit: float
    bound: Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class Comeback:
    """How a system came back after healing; all times in seconds.

    `word`: recovered in time, late, or never (the load went on, the fault was gone, and the system did not come back).
    `detected`: from the begin of the fault to the end of the first two seconds that were surely worse, None where none
    were. `recovered`: from healing to the moment from which all stayed well, None where there was none. `errors` of
    `requests` failed from the begin of the fault to that moment. `by` is what was worse last.
    """

    word: Literal["recovered", "late", "never"]
    detected: float | None
    recovered: float | None
    errors: int
    requests: int
    by: Literal["errors", "latency", "nothing"] = "nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement and how it came out.

    `title` says what was expected, `seen` what was seen, `limit` the limit in words, `source` from how much
    (`486 requests`), `why` the reason where it did not pass, `advice` what to do next where it did not pass.
    `details` are further lines: the other journeys, failing requests with their trace ids, log lines.
    `known` is the ticket of a failure that was known and is still within its time; empty for everything else.
    `comeback` is what a recovery that could be judged was like.
    """

    id: str
    kind: str
    title: str
    outcome: Outcome
    seen: str
    limit: str = ""
    source: str = ""
    why: str = ""
    advice: str = ""
    measure: Measure | None = None
    details: tuple[str, ...] = ()
    known: str = ""
    comeback: Comeback | None = None

    @property
    def counts_as(self) -> Outcome:
        """What it adds to the verdict: a failure that is known adds nothing."""
        return Outcome.PASSED if self.known else self.outcome

    @property
    def word(self) -> str:
        """How it came out, in a word: passed, failed, inconclusive, or known."""
        return "known" if self.known else self.outcome.word


@dataclass(frozen=True, slots=True)
class Figures:
    """One journey in one window (without guards), latencies in seconds; None where there was no request."""

    requests: int
    errors: int
    fallbacks: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class JourneyFigures:
    """A row of the journey x phase table. `felt` is what the fault did to it: nothing, slower, fallback, failed."""

    journey: str
    phases: dict[str, Figures]
    felt: Literal["nothing", "slower", "fallback", "failed"]


Word: TypeAlias = Literal["passed", "failed", "inconclusive", "halted", "interrupted", "error"]

EXIT_CODES: dict[Word, int] = {"passed": 0, "failed": 1, "inconclusive": 3, "halted": 4, "error": 5, "interrupted": 130}
INVALID = 2
"""Exit code for an invalid scenario or wrong usage: there is no verdict then."""
LEFT_BEHIND = 6
"""Exit code where clean-up was incomplete, whatever the verdict."""
TERMINATED = 143
"""Exit code after SIGTERM; `interrupted` after Ctrl-C is 130."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that a run showed. `word` is the answer, `sentence` says it with figures.

    `evidence` are the proofs that the run was worth judging: load, baseline, set, bit, met, healed, and first of all
    `engine` where the proxy engine did not stand. `warnings` tell what the verdict does not cover.
    `marks` are moments to show on the time axis, in seconds since the load began. `halted_by` is the id of the stop
    condition that halted the run, empty where none did; `stop_conditions` tell of each how near it came, in a line.
    """

    run: str
    scenario: str
    question: str
    word: Word
    sentence: str
    exit_code: int
    evidence: tuple[Finding, ...]
    expectations: tuple[Finding, ...]
    journeys: tuple[JourneyFigures, ...]
    marks: tuple[tuple[str, float], ...] = ()
    left_behind: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    halted_by: str = ""
    stop_conditions: tuple[str, ...] = ()
    version: int = VERSION


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """Add outcomes up. A run that judged nothing has shown nothing."""
    return max(outcomes, default=Outcome.INCONCLUSIVE)


def verdict_to_json(verdict: Verdict) -> str:
    """The verdict as it is written to `verdict.json`: stable keys, two spaces, a line end at the end."""

    def plain(value: Any) -> Any:
        if isinstance(value, Outcome):
            return value.word
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    data = plain(asdict(verdict))
    return json.dumps({"version": data.pop("version"), **data}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
