"""What a run can see: what is promised is found, what is called hopeless never passes, and both are told before a run."""

from __future__ import annotations

import re
from dataclasses import replace
from math import exp, floor, inf, sqrt
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from harness.cli import commands
from harness.judge.case import Case
from harness.judge.comparison import p_of_slower
from harness.judge.detectable import POWER, Z_POWER, apart, apart_by_both, borne_share, seen_rise, seen_share
from harness.judge.judge import judge_expectation
from harness.judge.power import MOST_ROUNDS, journeys_told, powers_of
from harness.judge.statistics import ALPHA, blocks, bootstrap_changes, newcombe, wilson
from harness.judge.verdict import Outcome
from harness.model.experiment import Experiment
from harness.model.load import Phases
from harness.model.parts import LatencyMargin
from harness.model.scenario import ScenarioFile
from harness.report.power import power_text
from tests.histories.building import Damage, Story, broken, expectation, experiment, fault, tell
from tests.histories.shop import JOURNEYS
from tests.systems import SCENARIO, write_system

NUMBERS = some.integers(100, 20_000)
MARGINS = some.sampled_from([0.01, 0.03, 0.05, 0.1, 0.3])
Z = some.sampled_from([1.96, 2.5, 2.87])


@given(NUMBERS, MARGINS, Z)
def test_the_promised_share_of_errors_is_found_in_ninety_of_a_hundred_runs(number: int, limit: float, z: float) -> None:
    share = seen_share(number, limit, z)

    least = next(hits for hits in range(number + 1) if wilson(hits, number, z).low > limit)
    assert stats.binom.sf(least - 1, number, share) >= POWER
    assert stats.binom.sf(least - 1, number, limit + 0.6 * (share - limit)) < POWER


@given(NUMBERS, NUMBERS, MARGINS, Z)
def test_the_promised_rise_of_errors_is_found_in_ninety_of_a_hundred_runs(
    before: int, after: int, margin: float, z: float
) -> None:
    rise = seen_rise(before, after, margin, z)

    least = next(hits for hits in range(after + 1) if newcombe((0, before), (hits, after), z).low > margin)
    assert stats.binom.sf(least - 1, after, rise) >= POWER
    assert margin < rise < 1


@given(NUMBERS, MARGINS)
def test_what_is_said_to_pass_does_in_ninety_of_a_hundred_runs(number: int, limit: float) -> None:
    borne = borne_share(number, lambda hits: wilson(hits, number).high <= limit)

    if borne is None:
        assert wilson(0, number).high > limit
    else:
        most = max(hits for hits in range(floor(number * limit) + 1) if wilson(hits, number).high <= limit)
        assert stats.binom.cdf(most, number, borne) >= POWER - 1e-9


def test_more_requests_see_smaller_effects_and_no_request_sees_none() -> None:
    assert seen_share(100, 0.05, 1.96) > seen_share(1000, 0.05, 1.96) > seen_share(10_000, 0.05, 1.96) > 0.05
    assert apart((100, 100), "p95", 1.96) > apart((1000, 1000), "p95", 1.96) > 1
    assert seen_share(0, 0.05, 1.96) == seen_rise(100, 0, 0.05, 1.96) == inf
    assert borne_share(0, lambda hits: True) is None


JOURNEYS_COMPARED = 12
"""Four journeys, each by errors, p50 and p95: what Holm's test makes of the first of them."""


def a_window(draws: numpy.random.Generator, requests: int, seconds: float, median: float) -> Any:
    """Lognormal latencies that wait together: all in one second share a part, so that 20/s count as a quarter of them."""
    at = draws.uniform(0, seconds, requests)
    shared = min(0.9, 3 / max(requests / seconds - 1, 1))
    together = draws.normal(0, 0.5 * sqrt(shared), int(seconds) + 1)
    alone = draws.normal(0, 0.5 * sqrt(1 - shared), requests)
    return blocks(at, median * numpy.exp(together[at.astype(int)] + alone), seconds)


@pytest.mark.parametrize(("requests", "seconds"), [(320, 16.0), (100, 16.0), pytest.param(1000, 56.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("quantile", "share", "allowed"),
    [("p50", 0.5, LatencyMargin(relative=0.5, absolute=0.05)), ("p95", 0.95, LatencyMargin(relative=1.0, absolute=0.1))],
)
def test_a_latency_shifted_as_far_as_promised_is_found_in_ninety_of_a_hundred_windows(
    requests: int, seconds: float, quantile: str, share: float, allowed: LatencyMargin
) -> None:
    """Planted where it is hardest to see: where both parts of the margin are exceeded just as far as promised."""
    draws = numpy.random.default_rng(20_261_121)
    z = stats.norm.isf(ALPHA / JOURNEYS_COMPARED / 2)
    times = apart_by_both((requests, requests), quantile, z, allowed)
    ratio, rise = (1 + (allowed.relative or 0)) * times, (allowed.absolute or 0) * times
    median = rise / (ratio - 1) / exp(0.5 * stats.norm.ppf(share))

    found = 0
    for _ in range(60):
        windows = a_window(draws, requests, seconds, median), a_window(draws, requests, seconds, median * ratio)
        (change,) = bootstrap_changes(*windows, (share,))
        found += p_of_slower(change, allowed) <= ALPHA / JOURNEYS_COMPARED

    assert found >= 0.9 * 60


EQUAL = tuple((name, 0.25) for name in JOURNEYS)
BLAST = expectation("blast_radius")
QUIET = Story(damage=(), weights=EQUAL, expect=(BLAST,))


def promised_errors(story: Story) -> float:
    number = story.rate * 16 / len(JOURNEYS)
    return seen_rise(number, number, 0.05, stats.norm.isf(ALPHA / JOURNEYS_COMPARED / 2))


@pytest.mark.slow
def test_errors_planted_at_the_promised_size_are_found_in_nine_of_ten_whole_runs() -> None:
    share = promised_errors(QUIET)
    stories = [replace(QUIET, seed=seed).with_damage(broken("browse", share=share)) for seed in range(40)]

    outcomes = [judge_expectation(Case(tell(story)), BLAST).outcome for story in stories]

    assert outcomes.count(Outcome.FAILED) >= 34  # of 40 at 90 %: fewer come with a chance of 4 in 100
    assert Outcome.PASSED not in outcomes


@pytest.mark.slow
def test_a_latency_planted_at_the_promised_size_is_found_in_nine_of_ten_whole_runs() -> None:
    number = QUIET.rate * 16 / len(JOURNEYS)
    allowed = LatencyMargin(relative=1.0, absolute=0.1)
    times = apart_by_both((number, number), "p95", stats.norm.isf(ALPHA / JOURNEYS_COMPARED / 2), allowed)
    stories = [replace(QUIET, seed=seed).with_damage(Damage("browse", 25.0, 45.0, later=0.1 * times)) for seed in range(20)]

    outcomes = [judge_expectation(Case(tell(story)), BLAST).outcome for story in stories]

    assert outcomes.count(Outcome.FAILED) >= 18


EVERY_KIND = (
    BLAST,
    expectation("blast_radius", id="strict", worse_by={"error_rate": "1%", "p50": "50%", "p95": "100ms"}),
    expectation("error_rate", max="1%"),
    expectation("error_rate", id="never", max="0%"),
    expectation("error_rate", id="each", max="3%", journey="each", during="recovery"),
    expectation("response_time", p95={"max": "1s"}, p99={"max": "2s"}),
    expectation("response_time", id="one", journey="browse", during="outage-1", p95={"max": "1s", "min": "1ms"}),
    expectation("fallback", name="shipping-deferred", fault="outage-1"),
    expectation("recovery", within="10s", hold="5s"),
)


def sized(rate: float, seconds: float) -> Story:
    phases = Phases.model_validate({name: f"{seconds:g}s" for name in ("baseline", "fault", "recovery")})
    return replace(
        QUIET,
        rate=rate,
        phases=phases,
        expect=EVERY_KIND,
        faults=(fault("outage", service="shipping", lasting=f"{seconds:g}s"),),
    )


@settings(max_examples=12, derandomize=True)
@given(some.sampled_from([2.0, 6.0, 12.0, 25.0, 80.0]), some.sampled_from([6.0, 9.0, 14.0, 20.0]))
def test_what_is_called_hopeless_never_passes_even_where_nothing_happened(rate: float, seconds: float) -> None:
    story = sized(rate, seconds)
    hopeless = {power.id for power in powers_of(experiment(story)) if power.hopeless}

    case = Case(tell(story))
    passed = {str(item.id) for item in EVERY_KIND if judge_expectation(case, item).outcome is Outcome.PASSED}

    assert "never" in hopeless
    assert hopeless & passed <= close_to_enough(story)


@pytest.mark.parametrize(
    ("rate", "phases", "why"),
    [
        (2.0, {"recovery": 20.0}, "about 9 requests of a journey in the recovery (if all are drawn alike), 20 are needed"),
        (2.0, {"baseline": 20.0, "recovery": 80.0}, "about 8 requests of a journey in the baseline"),
        (2.0, {"baseline": 60.0, "recovery": 60.0}, ""),
        (80.0, {"recovery": 6.0}, "4 s of the recovery cannot show that it holds for 5 s"),
    ],
)
def test_a_recovery_that_too_few_requests_of_a_journey_can_bear_out_is_hopeless(
    rate: float, phases: dict[str, float], why: str
) -> None:
    usual = QUIET.phases.model_copy(update={"baseline": 60.0, "fault": 60.0})
    story = replace(QUIET, rate=rate, expect=EVERY_KIND[-1:], phases=usual.model_copy(update=phases))

    hopeless = powers(story)["recovery-1"].hopeless

    assert why in hopeless
    assert bool(why) == bool(hopeless)


@pytest.mark.parametrize(
    ("phases", "why"),
    [
        ({"recovery": 14.0}, "about 20 requests in the recovery (if all are drawn alike), 30 are needed"),
        ({"baseline": 14.0}, "about 20 requests in the baseline (if all are drawn alike), 30 are needed"),
        ({}, ""),
    ],
)
def test_a_fallback_is_hopeless_where_too_few_requests_show_that_it_fires_without_a_fault(
    phases: dict[str, float], why: str
) -> None:
    item = expectation("fallback", id="fired", name="shipping-deferred", fault="outage-1", share={"min": "50%"})
    usual = QUIET.phases.model_copy(update={"baseline": 60.0, "fault": 100.0, "recovery": 60.0})
    lasting = (fault("outage", service="shipping", lasting="100s"),)
    story = replace(QUIET, rate=8.0, expect=(item,), faults=lasting, phases=usual.model_copy(update=phases))

    assert powers(story)["fired"].hopeless == why


def close_to_enough(story: Story) -> set[str]:
    """Where a few requests decide, the draw of the journeys may make up for them."""
    return {"each"} if 0.8 < story.rate * (story.phases.recovery - 4) / 4 / 125 < 1 else set()


def powers(story: Story, **changes: Any) -> dict[str, Any]:
    data = experiment(story).model_dump(mode="json")
    return {power.id: power for power in powers_of(Experiment.model_validate({**data, **changes}))}


def test_rounds_count_as_longer_phases_and_what_is_advised_is_enough() -> None:
    story = replace(QUIET, expect=EVERY_KIND)
    once = powers(story)["blast_radius-1"]

    rate, seconds, rounds = map(int, re.findall(r"(?:rate|fault|rounds) (\d+)", once.advice))

    longer = Phases.model_validate({"baseline": f"{seconds}s", "fault": f"{seconds}s"})
    outage = fault("outage", service="shipping", lasting=f"{seconds}s")
    assert once.advice.startswith("to see errors +7.5 points: load.rate ")
    assert 350 < rate < 500
    assert powers(story, rounds=rounds)["blast_radius-1"].advice == ""
    assert powers(replace(story, phases=longer, faults=(outage,)))["blast_radius-1"].advice == ""
    assert powers(replace(story, rate=float(rate)))["blast_radius-1"].advice == ""


def test_a_scenario_has_no_more_rounds_than_are_advised() -> None:
    (limit,) = (bound.le for bound in ScenarioFile.model_fields["rounds"].metadata if hasattr(bound, "le"))

    assert limit == MOST_ROUNDS


def test_of_a_limit_that_allows_all_or_nothing_no_effect_can_be_asked() -> None:
    found = powers(
        replace(
            QUIET, expect=tuple(expectation("error_rate", id=id, max=most) for id, most in (("all", "100%"), ("none", "0%")))
        )
    )

    assert found["all"].sights == ("errors: cannot fail, passes at 100.0 % or better",)
    assert "cannot pass" in found["none"].sights[0]
    assert found["all"].advice == found["none"].advice == ""


def test_only_the_time_a_fault_is_on_counts() -> None:
    whole = powers(replace(QUIET, expect=(expectation("error_rate", max="1%"),)))
    half = powers(
        replace(
            QUIET,
            faults=(fault("outage", service="shipping", at="2s", lasting="8s"),),
            expect=(expectation("error_rate", max="1%"),),
        )
    )

    assert whole["error_rate-1"].sights == ("errors: fails at 2.1 % or worse, passes at 0.2 % or better",)
    assert half["error_rate-1"].sights == ("errors: fails at 2.7 % or worse, passes at <0.1 % or better",)


def test_of_a_staged_rate_what_is_due_in_each_phase_counts_and_no_other_rate_is_advised() -> None:
    load = {
        **experiment(QUIET).model_dump(mode="json")["load"],
        "stages": [{"to": "8/s", "over": "25s"}, {"to": "80/s", "over": "0s"}],
    }

    found = powers(QUIET, load=load)["blast_radius-1"]

    assert "about 19 requests of a journey in the baseline" in found.hopeless
    assert "load.rate" not in found.advice
    assert "phases.baseline" in found.advice


def test_a_point_an_invariant_and_a_closed_loop_say_what_they_are() -> None:
    story = replace(
        QUIET, expect=(expectation("error_rate", max="1%", method="point"), expectation("recovery"), Story().expect[3])
    )
    found = powers(story)
    load = {**experiment(story).model_dump(mode="json")["load"], "rate": None}
    closed = powers(story, load=load)

    assert found["error_rate-1"].sights == ("compared as a point: near its limit it passes or fails by chance",)
    assert found["invariant-1"].sights == ("any violation that its query counts",)
    assert "depends on the answers" in closed["recovery-1"].sights[0]
    data = {**experiment(story).model_dump(mode="json"), "load": load}
    assert journeys_told(Experiment.model_validate(data)) == "the rate is not known beforehand"


def test_a_plan_ends_with_what_the_run_can_see() -> None:
    told = power_text(experiment(sized(80.0, 20.0)))

    assert told.startswith(
        "what this run can see, in 90 of 100 runs (1280 requests in the baseline, 1280 in the fault; each of 4"
    )
    assert "  error_rate-1: errors: fails at 2.1 % or worse, passes at 0.2 % or better\n" in told
    assert "at best inconclusive: no number of requests shows that not one ever fails\n" in told
    assert "→ to see errors 1.5 %: load.rate" in told
    assert "  recovery-1: errors within 2 s: fails at" in told


def test_the_command_prints_it_and_validate_warns_by_line_of_what_is_too_small(tmp_path: Path) -> None:
    small = SCENARIO.replace("faults:", "load: {rate: 4/s}\nfaults:")
    path = write_system(tmp_path, scenario=small)

    planned = CliRunner().invoke(commands, ["plan", str(path), "--runtime", "local"])
    validated = CliRunner().invoke(commands, ["validate", str(path), "--runtime", "local"])

    assert "what this run can see" in planned.output
    assert (
        f"warning: {path}:8:5: blast_radius-1 can at best be inconclusive: about 32 requests of a journey in the baseline (if all are drawn alike), 73 are needed"
        in validated.output
    )
    assert f"{path}: valid" in validated.output
    assert stats.norm.ppf(POWER) == pytest.approx(Z_POWER)
