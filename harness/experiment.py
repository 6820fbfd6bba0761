"""One run from file to verdict, put together from the layers."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import Any

from harness.errors import HarnessError, InvalidFile, InvalidInput, MissingPart, Problem, UnreadableRun
from harness.history.drafts import draft_of
from harness.history.events import RunBegan
from harness.history.history import History, read_history
from harness.history.store import PLAN, UNDO, VERDICT, RunFolder, pack_requests
from harness.judge.judge import judge
from harness.judge.live import LiveJudge
from harness.judge.verdict import EXIT_CODES, Verdict, verdict_to_json
from harness.model.compose import Compose
from harness.model.compose_config import compose_from_config, places_in
from harness.model.experiment import Experiment
from harness.model.quantities import LONGEST
from harness.model.resolving import ComposeReader, Resolved, resolve
from harness.model.runnable import (
    check_runs_in_containers,
    check_runs_locally,
    check_runs_with_toxiproxy,
    needs_embedded,
)
from harness.model.secrets import (
    HIDDEN,
    data_without_secrets,
    is_secret,
    known_secrets,
    source_without_secrets,
    without_secrets,
)
from harness.plan.plan import Plan
from harness.plan.planning import plan_of, plan_to_json
from harness.report.html import html_report
from harness.report.junit import Undecided, joined, junit_xml
from harness.report.markdown import markdown_summary
from harness.report.plain import clean_json
from harness.runtime.aborting import heeding
from harness.runtime.choosing import Choice, Engine
from harness.runtime.containers.blackholes import can_enter
from harness.runtime.containers.compose import compose_config
from harness.runtime.containers.engine import compose_version
from harness.runtime.containers.removal import project_of
from harness.runtime.guardian import LEASE_SECONDS
from harness.runtime.load.token import worker_token
from harness.runtime.ports import Watch
from harness.runtime.recorder import Recorder
from harness.runtime.registry import forget, is_alive, is_here, leave, register, runs
from harness.runtime.run import carry_out
from harness.runtime.services.limits import cannot_limit
from harness.runtime.setting import Setting
from harness.runtime.shares import shared_at, shared_here
from harness.runtime.stop_file import refuse_where_stopped
from harness.runtime.stopping import Stop
from harness.runtime.undo import describe, left_in

HTML, JUNIT, MARKDOWN = "report.html", "junit.xml", "summary.md"

Overrides = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about a run; `choice` is what the system is run on.

    `extend` is by how many seconds a window that is void or undecided is lengthened where the scenario does not say.
    `lease` is for how many the harness may give its guardian no sign of life.
    """

    reports: Path
    choice: Choice
    seed: int | None = None
    environment: Overrides = field(default_factory=dict)
    extend: float = 0.0
    lease: float = LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over."""

    folder: Path
    verdict: Verdict
    command: str


Audience = Callable[[Plan], Watch | None]
"""Called with the plan before a run begins; what it gives is shown everything that happens."""


def nobody(_plan: Plan) -> Watch | None:
    """The audience of a run that nobody watches."""
    return None


def validate(scenario: Path) -> tuple[Resolved, tuple[str, ...], tuple[Problem, ...]]:
    """Read and plan a scenario for every runtime; tells on which it can run, and why not on the other, where that was meant;
    raises InvalidFile where on none.

    Compose itself reads its files where it is installed, an engine is not needed; else they are read here.
    """
    able: list[str] = []
    refused: list[InvalidFile] = []
    resolved: Resolved | None = None
    for name, check in (("docker", check_runs_in_containers), ("local", check_runs_locally)):
        try:
            read = resolve(scenario, compose_of=read_by_compose if name == "docker" and has_compose() else None)
            if name == "local" and refused and not read.system.file.local:
                break  # it is for containers alone: that it says nothing of processes is not what is wrong with it
            found = check(read) if name == "docker" else check_runs_locally(read, cannot_limit())
            plan_of(found.experiment, found.queries)
        except InvalidFile as error:
            refused.append(error)
            continue
        able.append(name)
        resolved = resolved or found
    problems = tuple(dict.fromkeys(problem for error in refused for problem in error.problems))
    if resolved is None:
        raise InvalidFile(problems)
    return resolved, tuple(able), problems if resolved.system.file.local else ()


def has_compose() -> bool:
    """Whether Compose is there to read its own files."""
    try:
        compose_version(os.environ)
    except MissingPart:
        return False
    return True


def prepare(scenario: Path, options: Options) -> tuple[Resolved, Plan]:
    """Read a scenario and decide its run; raises InvalidFile for what cannot run where it was asked for."""
    resolved = resolve(scenario, seed=options.seed, compose_of=compose_reader(options.choice))
    _check_overrides(resolved, options.environment)
    resolved = _extending(for_choice(resolved, options.choice), options.extend)
    if resolved.experiment.load.bind is not None:
        worker_token(os.environ)
    return resolved, plan_of(resolved.experiment, resolved.queries)


def _extending(resolved: Resolved, otherwise: float) -> Resolved:
    """The same, with nothing left open of what becomes of a window that is too short."""
    if resolved.experiment.extend is not None:
        return resolved
    return replace(resolved, experiment=resolved.experiment.model_copy(update={"extend": otherwise}))


def for_choice(resolved: Resolved, choice: Choice) -> Resolved:
    """The same, as it is run on what was chosen; raises InvalidFile for what cannot be done there."""
    if choice.docker is None:
        return check_runs_locally(resolved, cannot_limit())
    resolved = check_runs_in_containers(resolved)
    if choice.engine != "toxiproxy":
        return resolved
    return check_runs_with_toxiproxy(resolved, may_lose_packets=can_enter(choice.docker))


def engine_for(choice: Choice, experiment: Experiment) -> tuple[Engine, str]:
    """The proxies that a scenario is run with, and why: Toxiproxy in containers, where it can do all of it."""
    if choice.engine != "auto":
        return choice.engine, choice.why
    if choice.docker is None:
        return "embedded", choice.why
    beyond = needs_embedded(experiment, may_lose_packets=can_enter(choice.docker))
    return ("embedded", f"{choice.why}; embedded proxies, since {beyond}") if beyond else ("toxiproxy", choice.why)


def compose_reader(choice: Choice) -> ComposeReader | None:
    """Who reads Compose files: Compose itself where containers are run, None for ourselves."""
    return read_by_compose if choice.docker is not None else None


def read_by_compose(files: Sequence[Path], environ: Mapping[str, str]) -> Compose:
    """The Compose files as Compose itself understands them, with the places that they show."""
    return compose_from_config(compose_config(files, environ), places_in(files))


def _check_overrides(resolved: Resolved, environment: Overrides) -> None:
    for service in environment:
        if service not in resolved.system.compose.services:
            known = ", ".join(resolved.system.compose.services)
            raise InvalidInput(f"--env: expected a service of the system, found {service!r}; there is {known}")


@dataclass(frozen=True, slots=True)
class Stage:
    """On what and before whom runs are carried out; `stop` ends the run that is under way."""

    options: Options
    stop: Stop
    audience: Audience = nobody

    def run(self, scenario: Path) -> Run:
        """Run a scenario once, clean."""
        resolved, plan = prepare(scenario, self.options)
        return self.carry_out(resolved, plan)

    def run_until_decided(self, scenario: Path, again: int, begins_again: Callable[[int], object]) -> Iterator[Run]:
        """Run a scenario, clean; what comes out inconclusive up to so many times `again`, with a note that it is.

        Each run is handed on when it is over, and the last one counts. What failed is never run again. `begins_again` is
        told of each further run as it begins: 1 for the first of them.
        """
        resolved, plan = prepare(scenario, self.options)
        notes: tuple[str, ...] = ()
        for number in range(again + 1):
            if number:
                begins_again(number)
            run = self.carry_out(replace(resolved, cautions=(*resolved.cautions, *notes)), plan)
            yield run
            if run.verdict.exit_code != EXIT_CODES["inconclusive"] or self.stop.signal is not None:
                return
            notes = (*notes, f"this is run again: {run.folder.name} was inconclusive ({run.verdict.sentence})")

    def carry_out(self, resolved: Resolved, plan: Plan) -> Run:
        """Carry out a plan, judge what was recorded, and write the reports."""
        refuse_where_stopped()
        path = _new_path(self.options.reports, plan.experiment.name)
        docker = self.options.choice.docker
        project = "" if docker is None else project_of(path.name)
        register(path, project=project, at=docker, shares=self._shares(resolved))
        try:
            with heeding(path.name, self.stop):
                self._carry_out(resolved, plan, path)
            return judge_folder(path)
        finally:
            leave(path)  # when its reports are written: who is killed over them leaves half of one

    def _shares(self, resolved: Resolved) -> tuple[str, ...]:
        docker, system = self.options.choice.docker, resolved.system
        if docker is not None:
            return shared_at(docker, system.compose)
        return shared_here(system.compose, system.file.local, self.options.environment, system.folder)

    def _carry_out(self, resolved: Resolved, plan: Plan, path: Path) -> None:
        folder = _new_folder(path)
        environments = _environments(resolved, self.options.environment)
        known = known_in(resolved, environments)
        for name, text in resolved.files.items():
            folder.write(name, source_without_secrets(text, environments, known))
        folder.write("compose.json", _as_json(data_without_secrets(_told(resolved.system.compose), known)))
        decided = json.loads(told := plan_without_secrets(plan, known))
        folder.write(PLAN, told)
        _point_latest_to(path)
        watcher = self.audience(plan)
        recorder = Recorder(folder, LiveJudge(decided), *([watcher] if watcher is not None else []), known=known)
        try:
            with _saying_no_secrets(known):
                carry_out(plan, self._setting(resolved, plan, path.name), recorder, self.stop)
        finally:
            folder.close()

    def _setting(self, resolved: Resolved, plan: Plan, run: str) -> Setting:
        engine, why = engine_for(self.options.choice, plan.experiment)
        choice = replace(self.options.choice, engine=engine)
        return Setting(
            run=run,
            compose=resolved.system.compose,
            local=resolved.system.file.local,
            folder=resolved.system.folder,
            locustfile=resolved.locustfile,
            why=why,
            command=command_for(resolved.scenario_path, plan.experiment.seed, replace(self.options, choice=choice)),
            overrides=self.options.environment,
            engine=engine,
            compose_files=tuple(resolved.system.folder / name for name in resolved.system.file.compose),
            docker=self.options.choice.docker,
            warnings=resolved.warnings,
            lease=self.options.lease,
        )


def command_for(scenario: Path, seed: int, options: Options) -> str:
    """How to run the same again, on the same; what looks like a secret is for whoever runs it to fill in."""
    on = "local" if options.choice.docker is None else "docker"
    engine = " --engine embedded" if options.choice.docker is not None and options.choice.engine == "embedded" else ""
    laid_over = [
        f" --env {quote(f'{service}.{name}={HIDDEN if is_secret(name, value) else value}')}"
        for service, variables in options.environment.items()
        for name, value in variables.items()
    ]
    lease = f" --lease {options.lease:g}s" if options.lease != LEASE_SECONDS else ""
    return f"chaos run {quote(str(scenario))} --seed {seed} --runtime {on}{engine}{lease}{''.join(laid_over)}"


def read_run(folder: Path) -> History:
    """What was recorded of a run; raises UnreadableRun where its plan is none that could have been carried out."""
    history = read_history(folder, left_of(folder))
    try:
        experiment = Experiment.model_validate(history.plan["experiment"])
    except ValueError as error:
        raise _unreadable(folder, error) from error
    try:
        Plan.model_validate(history.plan)
    except ValueError as error:
        if any(map(_matters, getattr(error, "errors", list)())):
            raise _unreadable(folder, error) from error
    if strange := history.out_of_time(longest_of(experiment)):
        raise UnreadableRun(f"{folder}: expected what was recorded in one run, found {strange}")
    return history


def left_of(folder: Path) -> tuple[str, ...]:
    """What is still to be undone of a run of this machine that is not under way any more: nobody but chaos gc will.

    Of one that is not noted here, or whose journal cannot be read, nothing is claimed.
    """
    with suppress(HarnessError, OSError):
        noted = next((entry for entry in runs() if Path(entry.folder) == folder.resolve()), None)
        if noted is not None and is_here(noted) and not is_alive(noted):
            return tuple(map(describe, left_in(folder / UNDO).values()))
    return ()


SLACK = 600.0
"""Seconds that a run may take beyond what was planned and lengthened: a machine that is busy, an engine started again."""


def _unreadable(folder: Path, error: ValueError) -> UnreadableRun:
    return UnreadableRun(f"{folder / PLAN}: expected a plan that this version can read, found: {error}")


def _matters(problem: Mapping[str, Any]) -> bool:
    """Whether whoever judges needs it: not what another version says besides, nor how load and databases were asked."""
    where = problem["loc"]
    is_asked = where[:1] == ("load",) or (where[:1] == ("observations",) and where[2:3] in (("invariant",), ("counter",)))
    return problem["type"] != "extra_forbidden" and not is_asked


def longest_of(experiment: Experiment) -> float:
    """For how many seconds from the begin of its load something of a run can have been recorded."""
    phases, rounds = experiment.phases, experiment.rounds
    each = phases.baseline + phases.fault + phases.recovery + 3 * min(experiment.extend or 0.0, LONGEST)
    return phases.warmup + rounds * each + phases.drain + SLACK


def judge_folder(folder: Path) -> Run:
    """Judge a stored run, and write its verdict and reports beside it."""
    with suppress(OSError):  # where they cannot be put into columns, the lines are judged
        pack_requests(folder)
    history = read_run(folder)
    verdict = judge(history)
    command = next((began.command for began in history.of(RunBegan)), "") or f"chaos run {folder / 'scenario.yaml'}"
    texts = {
        VERDICT: clean_json(verdict_to_json(verdict)),
        JUNIT: junit_xml(history, verdict),
        MARKDOWN: markdown_summary(history, verdict, command),
        HTML: html_report(history, verdict, command),
    }
    try:
        for name, text in texts.items():
            _write(folder / name, text)
    except OSError as error:
        raise InvalidInput(f"{folder}: expected a folder that the verdict can be written to, found: {error}") from error
    return Run(folder, verdict, command)


def joined_junit(runs: Sequence[Run], *, strict: bool) -> str:
    """One JUnit document for several runs; `strict` tells what could not be decided as failed."""
    undecided = Undecided.FAILURE if strict else Undecided.SKIPPED
    return joined([junit_xml(read_run(run.folder), run.verdict, undecided) for run in runs])


def _write(path: Path, text: str) -> None:
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _new_path(reports: Path, scenario: str) -> Path:
    return reports / scenario / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def _new_folder(path: Path) -> RunFolder:
    try:
        return RunFolder(path)
    except OSError as error:
        forget(path.name)  # nothing of it was begun
        reports = path.parent.parent
        raise InvalidInput(f"{reports}: expected a folder that reports can be written to, found: {error}") from error


def _point_latest_to(folder: Path) -> None:
    """`latest` beside the run leads to it; where links are not to be had, there is none."""
    link = folder.parent / "latest"
    draft = folder.parent / f".latest-{folder.name}"
    try:
        draft.symlink_to(folder.name)
        draft.replace(link)
    except OSError:
        draft.unlink(missing_ok=True)


def _told(compose: Compose) -> dict[str, Any]:
    """The Compose file as it was understood."""
    services = {
        name: {"environment": service.environment, "depends_on": service.depends_on, "ports": list(service.ports)}
        for name, service in compose.services.items()
    }
    return {"services": services}


def _as_json(data: Any) -> str:
    return clean_json(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _environments(resolved: Resolved, laid_over: Overrides) -> list[Mapping[str, str]]:
    """Every environment that a service may find."""
    of_defects = (defect.environment.values() for defect in resolved.experiment.defects.values())
    services = (service.environment for service in resolved.system.compose.services.values())
    return [*services, *laid_over.values(), *chain.from_iterable(of_defects)]


def plan_without_secrets(plan: Plan, known: frozenset[str]) -> str:
    """A plan as JSON, as it may be shown, and as a run's folder begins with it."""
    return _as_json(data_without_secrets(json.loads(plan_to_json(plan)), known))


def known_in(resolved: Resolved, environments: Sequence[Mapping[str, str]] | None = None) -> frozenset[str]:
    """What is blotted out wherever it turns up, of the environments that services may find; not what a service or a journey is
    called by, which a run is told with.
    """
    journeys = resolved.experiment.system.journeys
    names = (*resolved.system.compose.services, *journeys, *journeys.values())
    environments = _environments(resolved, {}) if environments is None else environments
    return frozenset(
        secret for secret in known_secrets([*environments, os.environ]) if not any(secret in name for name in names)
    )


@contextmanager
def _saying_no_secrets(known: frozenset[str]) -> Iterator[None]:
    """What is raised here says no secret."""
    try:
        yield
    except Exception as error:
        error.args = tuple(without_secrets(part, known) if isinstance(part, str) else part for part in error.args)
        raise
