"""What comes out inconclusive is run again, visibly; what failed never is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.experiment import Options, Run, Stage, prepare
from harness.judge.judge import judge
from harness.judge.verdict import EXIT_CODES, LEFT_BEHIND, Verdict, Word
from harness.model.resolving import Resolved
from harness.plan.plan import Plan
from harness.runtime.choosing import Choice
from harness.runtime.stopping import Stop
from tests.histories.building import Story, tell
from tests.systems import SCENARIO, write_system

VERDICT = judge(tell(Story()))


def came_to(word: Word, code: int | None = None) -> Verdict:
    return replace(VERDICT, word=word, sentence=f"it was {word}", exit_code=EXIT_CODES[word] if code is None else code)


@dataclass(frozen=True)
class ToldStage(Stage):
    """A stage on which nothing is run: `verdicts` are what the runs come to, one after the other."""

    verdicts: Sequence[Verdict] = ()
    played: list[tuple[Resolved, Plan]] = field(default_factory=list)
    begun_again: list[int] = field(default_factory=list)

    def carry_out(self, resolved: Resolved, plan: Plan) -> Run:
        self.played.append((resolved, plan))
        return Run(Path(f"run-{len(self.played)}"), self.verdicts[len(self.played) - 1], "chaos run x")


def local(tmp_path: Path, **said: float) -> Options:
    return Options(reports=tmp_path, choice=Choice(docker=None, engine="embedded", why="asked for"), **said)  # type: ignore[arg-type]


def words(tmp_path: Path, again: int, *verdicts: Verdict, stop: Stop | None = None) -> tuple[list[Word], ToldStage]:
    stage = ToldStage(local(tmp_path), stop or Stop(), verdicts=verdicts)
    runs = list(stage.run_until_decided(write_system(tmp_path), again, stage.begun_again.append))
    return [run.verdict.word for run in runs], stage


UNDECIDED = came_to("inconclusive")


@pytest.mark.parametrize(
    ("again", "verdicts", "runs"),
    [
        (0, [UNDECIDED], ["inconclusive"]),
        (1, [UNDECIDED, came_to("passed")], ["inconclusive", "passed"]),
        (1, [UNDECIDED, came_to("failed")], ["inconclusive", "failed"]),
        (1, [UNDECIDED, UNDECIDED], ["inconclusive", "inconclusive"]),
        (3, [UNDECIDED, UNDECIDED, came_to("passed")], ["inconclusive", "inconclusive", "passed"]),
        (1, [came_to("passed")], ["passed"]),
        (1, [came_to("failed")], ["failed"]),
        (1, [came_to("error")], ["error"]),
        (1, [came_to("interrupted")], ["interrupted"]),
        (1, [came_to("inconclusive", LEFT_BEHIND)], ["inconclusive"]),
    ],
)
def test_only_what_is_inconclusive_is_run_again_and_the_last_run_counts(
    tmp_path: Path, again: int, verdicts: list[Verdict], runs: list[Word]
) -> None:
    came, stage = words(tmp_path, again, *verdicts)

    assert came == runs
    assert stage.begun_again == list(range(1, len(runs)))


def test_it_is_the_same_run_again_and_says_which_it_follows(tmp_path: Path) -> None:
    _, stage = words(tmp_path, 1, UNDECIDED, came_to("passed"))

    (first, plan), (second, same) = stage.played
    assert same is plan
    assert second.warnings == (*first.warnings, "this is run again: run-1 was inconclusive (it was inconclusive)")


def test_whoever_was_asked_to_stop_runs_nothing_again(tmp_path: Path) -> None:
    stop = Stop()
    stop.ask("SIGINT")

    came, stage = words(tmp_path, 1, UNDECIDED, came_to("passed"), stop=stop)

    assert came == ["inconclusive"]
    assert stage.begun_again == []


@pytest.mark.parametrize(
    ("written", "watched", "extend"),
    [("", 30.0, 30.0), ("", 0.0, 0.0), ("extend: 0s\n", 30.0, 0.0), ("extend: 10s\n", 0.0, 10.0)],
)
def test_windows_are_lengthened_as_the_scenario_says_or_else_where_somebody_watches(
    tmp_path: Path, written: str, watched: float, extend: float
) -> None:
    resolved, plan = prepare(write_system(tmp_path, scenario=SCENARIO + written), local(tmp_path, extend=watched))

    assert resolved.experiment.extend == plan.experiment.extend == extend
