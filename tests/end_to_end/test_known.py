"""A stored run is judged by the command: what is known does not fail it, what is overdue or passes again does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.chaos import chaos
from tests.histories.building import Story, broken, write_run

HARMED = Story().with_damage(broken("browse", share=0.2))


def stored(story: Story, until: str, folder: Path) -> Path:
    """The folder of a run of the 21st of September 2026, whose plan knows that the blast radius is not kept."""
    run = write_run(story, folder / "run")
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    plan["experiment"]["known"] = [{"expect": "blast_radius-1", "ticket": "SRE-412", "until": until}]
    (run / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    return run


@pytest.mark.parametrize(
    ("story", "until", "code", "told"),
    [
        (HARMED, "2026-09-21", 0, "  ~ blast radius"),
        (HARMED, "2026-09-20", 1, "which has passed: take it out of known"),
        (Story(), "2026-09-21", 1, "passes again, although it is known not to (SRE-412)"),
    ],
)
def test_a_known_failure_is_told_apart_by_the_command(story: Story, until: str, code: int, told: str, tmp_path: Path) -> None:
    run = stored(story, until, tmp_path)

    answer = chaos("judge", str(run))

    assert answer.code == code, answer.out + answer.err
    assert told in answer.out
    assert ("known failure, SRE-412" in (run / "junit.xml").read_text(encoding="utf-8")) == (code == 0)
