"""Arguments in, exit code out. Nothing else of the harness prints.

The layers are imported where they are used, so that `chaos --help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harness import __version__
from harness.errors import CouldNotRun, HarnessError, InvalidFile, InvalidInput, Problem
from harness.machine import KEEP, abort, gc, remove_expired
from harness.runtime.stopping import Stop, end_by_signals, ignore_signals, listening
from harness.saying import say, say_data

if TYPE_CHECKING:
    from harness.experiment import Options, Run, Stage
    from harness.model.resolving import Resolved
    from harness.proof import Trial
    from harness.terminal import Terminal

INVALID = 2
COULD_NOT_RUN = 5
LEFT_BEHIND = 6
INTERRUPTED = 130
TERMINATED = 143
SHORTEST_LEASE, LONGEST_LEASE = 1.0, 300.0
HANGING_SECONDS = 2.0
"""How long a thread may still take when the command is over."""


class Commands(click.Group):
    """Commands in the order they were written."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names."""
        return list(self.commands)


def main() -> NoReturn:
    """Run the command line, and end with the exit code that the table in the documentation gives."""
    stop = Stop()
    end_by_signals(stop)
    try:
        code = _outcome_of(lambda: commands(prog_name="chaos", standalone_mode=False, obj=stop))
    except KeyboardInterrupt:  # while an error was told
        code = INTERRUPTED
    ignore_signals()
    _leave(_interrupted(stop, code))


def _interrupted(stop: Stop, code: int) -> int:
    """The exit code of a command that may have been asked to end, by whatever it was then in."""
    if stop.signal is None or code == LEFT_BEHIND:
        return code
    return INTERRUPTED if stop.signal == "SIGINT" else TERMINATED


def _leave(code: int) -> NoReturn:
    """End, without waiting for threads that hang; and with this code even where Python would end by SIGINT."""
    until = time.monotonic() + HANGING_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):
            stream.flush()
    os._exit(code)


def _outcome_of(command: Callable[[], Any]) -> int:
    """The exit code of a command, with every error told to the person."""
    try:
        code = command()  # what a command raised as Exit, click hands back as a number
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        say(said.getvalue(), err=True, nl=False)
        return INVALID
    except HarnessError as error:
        say(str(error) if isinstance(error, InvalidFile) else f"chaos: {error}", err=True)
        return COULD_NOT_RUN if isinstance(error, CouldNotRun) else INVALID
    except Exception:
        say(traceback.format_exc(), err=True, nl=False)
        say("chaos: this is a defect of the harness itself, not of your system", err=True)
        return COULD_NOT_RUN


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, package_name="chaos-harness", prog_name="chaos")
def commands() -> None:
    """Break one dependency of a system on purpose, and judge whether the damage stayed contained.

    Exit codes: 0 passed, 1 failed, 2 invalid scenario or usage, 3 inconclusive, 4 halted by a stop condition,
    5 could not run, 6 something was left behind, 130/143 interrupted.
    """


def _parse_environment(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """SERVICE.NAME=VALUE, as often as wanted."""
    found: dict[str, dict[str, str]] = {}
    for text in given:
        target, sign, value = text.partition("=")
        service, dot, name = target.partition(".")
        if not (sign and dot and service and name):
            raise click.BadParameter(f"expected SERVICE.NAME=VALUE, found {text!r}")
        found.setdefault(service, {})[name] = value
    return found


def _parse_lease(_context: click.Context, _option: click.Parameter, given: str) -> float:
    """Seconds, not so few that a busy machine seems dead."""
    from harness.model.quantities import parse_duration

    try:
        lease = parse_duration(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not SHORTEST_LEASE <= lease <= LONGEST_LEASE:
        raise click.BadParameter(f"expected {SHORTEST_LEASE:g}s to {LONGEST_LEASE:g}s, found {given!r}")
    return lease


FILE = click.argument("file", type=click.Path(path_type=Path))
FILES = click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
RUN = click.argument("run", type=click.Path(path_type=Path))
SEED = click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Decides everything that is drawn; in every report.")

RUNTIMES = ("auto", "docker", "local")
ENGINES = ("auto", "toxiproxy", "embedded")

RUNTIME = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="auto",
    show_default=True,
    help="What the system runs on: containers, or local processes; auto takes containers where a Docker engine answers.",
)

ENGINE = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="The proxies: Toxiproxy (containers alone; what auto takes there, if it can do all that is asked) or embedded ones.",
)


def _options_of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        RUNTIME,
        ENGINE,
        SEED,
        click.option(
            "--env",
            "environment",
            multiple=True,
            metavar="SERVICE.NAME=VALUE",
            callback=_parse_environment,
            help="Lay a variable over a service's environment.",
        ),
        click.option(
            "--report-dir",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("reports"),
            show_default=True,
            help="Where the runs' folders go.",
        ),
        click.option(
            "--lease",
            default="5s",
            show_default=True,
            callback=_parse_lease,
            help="How long the harness may give no sign of life until its guardian heals and takes everything down.",
        ),
        *KEEP,
        click.option("-q", "--quiet", is_flag=True, help="Print the end of a run only."),
        click.option("--no-color", is_flag=True, help="No colour (also by the variable NO_COLOR)."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _run_options(given: dict[str, Any]) -> Options:
    from harness.experiment import Options
    from harness.runtime.choosing import choose

    choice = choose(given["runtime"], given["engine"], os.environ)
    told = {"seed": given["seed"], "environment": given["environment"], "lease": given["lease"]}
    return Options(reports=given["report_dir"], choice=choice, **told)


@commands.command()
@FILES
@_options_of_a_run
@click.option("--junit-xml", type=click.Path(path_type=Path, dir_okay=False), help="Also write the JUnit report here.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON, and nothing else, on standard output.")
@click.option("--strict", is_flag=True, help="Inconclusive counts as failed: exit 1 in place of 3.")
@click.option(
    "--rerun-inconclusive",
    "again",
    type=click.IntRange(0, 5),
    default=0,
    metavar="TIMES",
    help="Run what comes out inconclusive so many times again, never what failed; the last run counts, each is told.",
)
def run(files: Sequence[Path], junit_xml: Path | None, as_json: bool, strict: bool, again: int, **given: Any) -> None:
    """Run scenarios, one after the other, and judge each."""
    from harness.experiment import Stage, prepare
    from harness.judge.verdict import verdict_to_json
    from harness.terminal import Terminal

    terminal = Terminal(quiet=given["quiet"] or as_json, plain=given["no_color"], to_stderr=as_json)
    options = replace(_run_options(given), extend=EXTEND if terminal.is_watched else 0.0)
    for file in files:
        prepare(file, options)
    runs: list[Run] = []
    made: list[Run] = []
    stop = _listening()
    stage = Stage(options, stop, terminal.audience)
    for file in files:
        tries = _tries(stage, file, terminal, again)
        runs.append(tries[-1])
        made += tries
        if as_json:
            say_data(verdict_to_json(tries[-1].verdict))
        _summarize(tries)
        if stop.signal is not None:
            _tell_not_run(files[len(runs) :])
            break
    _hand_on(runs, junit_xml, strict=strict)
    _remove_expired(given, made)
    raise click.exceptions.Exit(_worst([finished.verdict.exit_code for finished in runs], strict=strict))


def _tell_not_run(files: Sequence[Path]) -> None:
    """What an interrupt kept from being run at all."""
    if files:
        say(f"chaos: interrupted, so not run: {', '.join(map(str, files))}", err=True)


def _remove_expired(given: dict[str, Any], runs: Iterable[Run]) -> None:
    """Of the scenarios that were run now, older runs go where that is asked for."""
    remove_expired([run.folder for run in runs], given["keep_runs"], given["keep_days"])


EXTEND = 30.0
"""Seconds by which a window that is void or undecided is lengthened where somebody watches, and nothing else is said."""


def _tries(stage: Stage, file: Path, terminal: Terminal, again: int) -> list[Run]:
    """Every run of one scenario, each told as it ends; the last one counts."""

    def begins_again(number: int) -> None:
        terminal.say(f"inconclusive, so it is run again ({number} of {again})")

    tries: list[Run] = []
    try:
        for finished in stage.run_until_decided(file, again, begins_again):
            terminal.leave()
            terminal.tell(finished)
            tries.append(finished)
    finally:
        terminal.leave()
    return tries


def _summarize(tries: Sequence[Run]) -> None:
    """The summaries of all tries, where GitHub wants them."""
    from harness.experiment import MARKDOWN

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.writelines((finished.folder / MARKDOWN).read_text(encoding="utf-8") for finished in tries)


def _hand_on(runs: Sequence[Run], junit: Path | None, *, strict: bool) -> None:
    """For CI: one JUnit file of the runs that count, where it was asked for."""
    from harness.experiment import joined_junit

    if junit is not None:
        told = joined_junit(runs, strict=strict)
        try:
            junit.parent.mkdir(parents=True, exist_ok=True)
            junit.write_text(told, encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"{junit}: expected a file that can be written, found: {error.strerror}") from error


PRECEDENCE = (6, 143, 130, 5, 2, 4, 1, 3, 0)


def _worst(codes: Sequence[int], *, strict: bool) -> int:
    """The exit code of several runs: the first in the order of the table that one of them has."""
    counted = [1 if strict and code == 3 else code for code in codes]
    return next((code for code in PRECEDENCE if code in counted), COULD_NOT_RUN)


@commands.command()
@FILE
@_options_of_a_run
@click.option("--only", multiple=True, metavar="TRIAL", help="Only this trial: clean, a defect, or a twin. May be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def prove(file: Path, only: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show that a scenario can say no: run it clean, on each of its defects, and as its free twins.

    The clean system must pass; each defect must be caught by the expectation or stop condition it names; a fault withheld, one
    accepted and not applied, and one on a proxy that nobody calls must be inconclusive; a cut where the load comes in
    must fail.
    """
    from harness.experiment import Stage
    from harness.proof import Tellers
    from harness.proof import prove as prove_scenario

    options = _run_options(given)
    from harness.terminal import Terminal

    terminal = Terminal(quiet=given["quiet"] or as_json, plain=given["no_color"], to_stderr=as_json)

    def begun(what: str) -> None:
        if not as_json:
            say(f"\n{what}")

    def over(trial: Trial) -> None:
        terminal.leave()
        if not as_json:
            sign = "✓" if trial.proven else "✗"
            say(f"{sign} {trial.name:<20} must be {trial.must:<28} was {trial.seen}  ({trial.run.folder})")

    stop = _listening()
    try:
        trials = prove_scenario(file, Stage(options, stop, terminal.audience), only, Tellers(begun, over))
    finally:
        terminal.leave()
    _remove_expired(given, [trial.run for trial in trials])
    proven = sum(trial.proven for trial in trials)
    if as_json:
        import json

        rows = [
            {"trial": t.name, "kind": t.kind, "must": t.must, "was": t.seen, "proven": t.proven, "run": str(t.run.folder)}
            for t in trials
        ]
        say_data(json.dumps({"scenario": str(file), "trials": rows}, indent=2) + "\n")
    else:
        say(_proof_table(file, trials))
    if stop.signal is not None:
        say("chaos: interrupted, so NOT PROVEN: what was not tried shows nothing", err=True)
    ends = [trial.run.verdict.exit_code for trial in trials if trial.run.verdict.exit_code in (5, 6, 130, 143)]
    raise click.exceptions.Exit(_worst(ends, strict=False) if ends else 0 if proven == len(trials) else 1)


def _proof_table(file: Path, trials: Sequence[Trial]) -> str:
    lines = [f"\nproof of {file}", ""]
    lines += [f"  {'✓' if t.proven else '✗'} {t.kind:<7} {t.name:<20} must be {t.must:<28} was {t.seen}" for t in trials]
    proven = sum(trial.proven for trial in trials)
    lines += ["", f"{proven} of {len(trials)} as they should be" + ("" if proven == len(trials) else ": NOT PROVEN")]
    return "\n".join(lines)


@commands.command()
@FILES
@click.option("--runtime", type=click.Choice(RUNTIMES), help="Check for this runtime, as plan does; else for each.")
@click.option("--engine", type=click.Choice(ENGINES), help="Check for these proxies, as plan does; else for whatever fits.")
def validate(files: Sequence[Path], runtime: Any, engine: Any) -> None:
    """Check scenarios and the systems they name; every problem at once, with its place."""
    check = _validity_anywhere if runtime is None and engine is None else _validity_on(runtime or "auto", engine or "auto")
    problems: list[Problem] = []
    for file in files:
        try:
            resolved, where = check(file)
        except InvalidFile as error:
            problems += error.problems
            continue
        for warning in (*resolved.warnings, *_too_small(resolved)):
            say(f"warning: {warning}", err=True)
        say(f"{file}: valid{where}")
    if problems:
        raise InvalidFile(tuple(dict.fromkeys(problems)))


def _too_small(resolved: Resolved) -> Iterator[str]:
    """What a run can at best leave open, and what never halts one, each with its place."""
    from harness.report.power import never_halts, too_small

    for key, told in (("expect", too_small), ("stop_when", never_halts)):
        for index, why in told(resolved.experiment):
            yield f"{resolved.documents[0].place((key, index))}: {why}"


def _validity_anywhere(file: Path) -> tuple[Resolved, str]:
    from harness.experiment import validate as validated

    resolved, able, problems = validated(file)
    for problem in problems:
        say(f"not for --runtime {'local' if able[0] == 'docker' else 'docker'}: {problem}", err=True)
    return resolved, "" if len(able) > 1 else f", for --runtime {able[0]} alone"


def _validity_on(runtime: Any, engine: Any) -> Callable[[Path], tuple[Resolved, str]]:
    """Checks what `plan` would refuse there; says what was chosen where that was left open."""
    from harness.experiment import compose_reader, engine_for, for_choice
    from harness.model.resolving import resolve
    from harness.plan.planning import plan_of
    from harness.runtime.choosing import choose

    choice = choose(runtime, engine, os.environ)

    def check(file: Path) -> tuple[Resolved, str]:
        resolved = for_choice(resolve(file, compose_of=compose_reader(choice)), choice)
        plan_of(resolved.experiment, resolved.queries)
        chosen, _ = engine_for(choice, resolved.experiment)
        return resolved, f", for --runtime {'local' if choice.docker is None else 'docker'} --engine {chosen}"

    return check


@commands.command()
@FILE
@SEED
@RUNTIME
@ENGINE
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, as a run's folder begins with it.")
@click.option("--explain", is_flag=True, help="Also tell where each value came from.")
@click.option("--twin", type=click.Choice(["no fault", "wrong edge", "entry cut"]), help="The plan of a free twin.")
def plan(file: Path, as_json: bool, explain: bool, twin: Any, **given: Any) -> None:
    """Print what a run would do, without doing anything. The same seed gives the same plan."""
    from harness.experiment import compose_reader, for_choice, known_in, plan_without_secrets
    from harness.model.origins import origins_of
    from harness.model.resolving import resolve
    from harness.model.secrets import without_secrets
    from harness.plan.planning import plan_of
    from harness.plan.text import explanation, plan_text
    from harness.plan.twins import twin_of
    from harness.report.power import power_text
    from harness.runtime.choosing import choose

    choice = choose(given["runtime"], given["engine"], os.environ)
    resolved = resolve(file, seed=given["seed"], compose_of=compose_reader(choice))
    resolved = for_choice(resolved, choice)
    decided = plan_of(resolved.experiment, resolved.queries)
    if twin is not None:
        decided = twin_of(decided, twin)
    known = known_in(resolved)
    if as_json:
        say_data(plan_without_secrets(decided, known))
    else:
        say(without_secrets(f"{plan_text(decided)}\n{power_text(decided.experiment)}", known), nl=False)
    if explain:
        origins = origins_of(resolved.experiment, *resolved.documents)
        say(without_secrets("\n" + explanation(decided, origins), known), nl=False, err=as_json)
    for warning in resolved.warnings:
        say(without_secrets(f"warning: {warning}", known), err=True)


@commands.command()
@click.argument("kind", required=False)
def faults(kind: str | None) -> None:
    """Tell what can be injected: every kind in a line, or one with its attributes and what it does to connections."""
    from harness.model.faults import FAULT_KINDS
    from harness.model.reading import nearest
    from harness.report.fault_pages import overview, page_text

    if kind is not None and kind not in FAULT_KINDS:
        raise click.BadParameter(f"expected a kind of fault, found {kind!r}{nearest(kind, FAULT_KINDS)}", param_hint="KIND")
    say(overview() if kind is None else page_text(kind), nl=False)


@commands.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.option("--no-color", is_flag=True)
def judge(run: Path, as_json: bool, no_color: bool) -> None:
    """Judge a stored run again; here or on another machine, the verdict is the same byte for byte.

    What of the run is still left behind on this machine is told besides, with exit code 6.
    """
    from harness.experiment import judge_folder
    from harness.judge.verdict import verdict_to_json

    judged = judge_folder(run)
    if as_json:
        say_data(verdict_to_json(judged.verdict))
    else:
        from harness.terminal import Terminal

        Terminal(quiet=True, plain=no_color, to_stderr=False).tell(judged)
    raise click.exceptions.Exit(judged.verdict.exit_code)


@commands.command()
@RUN
@click.option("--format", "kind", type=click.Choice(("csv", "parquet", "jsonl")), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file, not to standard output.")
def export(run: Path, kind: Any, output: Path | None) -> None:
    """Write a run's requests, one row each, for other programs: journey, phase, latency, outcome and all the rest."""
    from harness.experiment import read_run
    from harness.history.drafts import draft_of
    from harness.history.export import write_export

    stdout = sys.stdout.buffer
    if output is None and kind == "parquet" and stdout.isatty():
        raise click.UsageError("Parquet is binary, and standard output is a terminal: give --output FILE, or lead it elsewhere")
    history = read_run(run)
    if output is not None and output.resolve().is_relative_to(run.resolve()):
        raise InvalidInput(
            f"{output}: expected a file outside of the run's folder, which keeps what was recorded; found one in it"
        )
    if output is None:
        try:
            write_export(history, kind, stdout)
            stdout.flush()
        except BrokenPipeError:  # whoever reads it has seen enough; to Click that would be exit code 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return
    try:
        with draft_of(output) as draft, draft.open("wb") as file:
            write_export(history, kind, file)
    except OSError as error:
        raise InvalidInput(f"{output}: expected a file that can be written, found: {error}") from error


def _rate(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    from harness.model.quantities import parse_rate

    try:
        rate = parse_rate(value) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if rate is not None and rate < 1:
        raise click.BadParameter(f"expected at least 1/s, found {value!r}")
    return rate


@commands.command()
@click.argument("system", type=click.Path(path_type=Path))
@_options_of_a_run
@click.option("--windows", type=click.IntRange(4, 100), default=10, show_default=True, help="How many windows to compare.")
@click.option(
    "--up-to",
    callback=_rate,
    metavar="RATE",
    help="Step up to this rate, such as 400/s; else to eight times its own.",
)
@click.option("--write", is_flag=True, help="Put the margins into the system's file, which keeps its comments.")
def calibrate(system: Path, windows: int, up_to: float | None, write: bool, **given: Any) -> None:
    """Run a system without any fault, and tell what it allows on this machine.

    Its noise floor for each journey, margins that hold in 99 of 100 comparisons of what did not change, and the rate at
    which it saturates.
    """
    from harness.calibration import calibrate as calibrated
    from harness.calibration import expect_place_for_margins, write_margins
    from harness.experiment import Stage
    from harness.report.calibration import calibration_text
    from harness.terminal import Terminal

    if write:
        expect_place_for_margins(system)
    terminal = Terminal(quiet=given["quiet"], plain=given["no_color"], to_stderr=False)
    stop = _listening()
    try:
        found = calibrated(system, Stage(_run_options(given), stop, terminal.audience), windows, up_to)
    finally:
        terminal.leave()
    say(calibration_text(found.floors, found.margins, found.steps, found.why, found.others), nl=False)
    say(f"recorded in {found.run.folder}")
    _remove_expired(given, [found.run])
    if found.margins is None:
        raise click.exceptions.Exit(found.run.verdict.exit_code or 3)
    if write and stop.signal is None:
        say(f"written to {write_margins(system, found.margins)}")


@commands.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)
@click.argument("arguments", metavar="[OPTIONS]", nargs=-1, type=click.UNPROCESSED)
def proxy(arguments: Sequence[str]) -> None:
    """Start the embedded proxy engine by itself: Toxiproxy's API, toxics and options, and what passed."""
    from harness.runtime.proxies.embedded.command import main as serve

    raise click.exceptions.Exit(serve(arguments, "chaos proxy"))


commands.add_command(abort)
commands.add_command(gc)


def _listening() -> Stop:
    """From here to the end of the command, signals set a flag and nothing else, and nothing that is printed can fail."""
    from harness.standard_streams import print_undisturbed

    context = click.get_current_context()
    stop = context.find_object(Stop) or Stop()
    context.with_resource(listening(stop))
    print_undisturbed()
    return stop
