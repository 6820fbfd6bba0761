"""Reads the user's Compose file: interpolated, merged, and with what a run without containers cannot honour.

The rules are those of the Compose specification, as far as they go here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import InvalidFile, Problem
from harness.model.compose import Compose, ComposeService, HealthCheck
from harness.model.edges import is_port
from harness.model.parts import NAME, NAMED
from harness.model.quantities import parse_duration
from harness.model.reading import Document, Loc, is_file, nearest, read_document, read_text, shown

REPLACED = {"image", "build", "command", "entrypoint", "working_dir", "platform", "pull_policy"}
"""Keys of a service that `local:` in system.yaml stands in for."""

HONOURED = {"environment", "env_file", "depends_on", "healthcheck", "ports", "expose", "restart"}
HARMLESS = {"labels", "annotations", "container_name"}
"""Keys of a service that change nothing of what a run without containers does."""

RESTART = re.compile(r"no|always|unless-stopped|on-failure(:\d+)?")

TOP_LEVEL = {"services", "name", "version"}

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<rule>:?[-?+])(?P<word>(?:[^{}]|\{[^{}]*\})*))?\}|(?P<broken>))"
)


class Unset(ValueError):
    """A variable that the file requires is not set, or is written wrongly."""


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+other}` filled in; `$$` is a `$`."""

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["broken"] is not None:
            raise Unset(f"expected a variable such as ${{NAME}} (or $$ for a dollar sign), found {text!r}")
        name, rule, word = match["plain"] or match["braced"], match["rule"] or "", match["word"] or ""
        value = environ.get(name)
        there = value is not None and (value != "" or not rule.startswith(":"))
        if rule.endswith("+"):
            return interpolate(word, environ) if there else ""
        if there:
            return value or ""
        if rule.endswith("?"):
            raise Unset(f"expected the variable {name} to be set{': ' + word if word else ''}, found it unset")
        return interpolate(word, environ)

    return _VARIABLE.sub(fill, text)


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Service(_Loose):
    """A service's keys that are honoured, by type; the rest is looked at by name only."""

    environment: dict[str, str | int | float | None] | list[str] = Field(default_factory=dict)
    env_file: str | list[str | dict[str, Any]] = Field(default_factory=list)
    depends_on: list[str] | dict[str, dict[str, Any]] = Field(default_factory=list)
    healthcheck: dict[str, Any] | None = None
    ports: list[int | str | dict[str, Any]] = Field(default_factory=list)
    expose: list[int | str] = Field(default_factory=list)
    restart: str | bool | None = None


class _Reader:
    """Reads one Compose file, collecting every problem."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.folder = path.parent
        self.environ = environ
        self.document = read_document(path, "a Compose file")
        self.problems: list[Problem] = []

    def say(self, path: Loc, message: str, *, at_key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, at_key=at_key))

    def fill(self, value: Any, path: Loc) -> Any:
        """The value with every text in it interpolated."""
        if isinstance(value, dict):
            return {key: self.fill(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            return interpolate(value, self.environ)
        except Unset as error:
            self.say(path, str(error))
            return value

    def services(self) -> dict[str, ComposeService]:
        found = self.document.data.get("services")
        if not isinstance(found, dict) or not found:
            self.say(("services",), "expected services: with at least one service, found none")
            return {}
        return {name: self.service(name, found[name], set(found)) for name in found}

    def service(self, name: str, raw: Any, names: set[str]) -> ComposeService:
        path: Loc = ("services", name)
        if not NAME.fullmatch(name):
            self.say(path, f"expected {NAMED}, found {name!r}", at_key=True)
        if not isinstance(raw, dict):
            self.say(path, "expected a mapping of keys to values")
            return ComposeService(name)
        data = self.fill({key: raw[key] for key in raw if key not in REPLACED}, path)
        for key in raw:
            if key in REPLACED:
                self.fill(raw[key], (*path, key))
        try:
            service = _Service.model_validate(data)
        except ValueError as error:
            for details in getattr(error, "errors", list)():
                self.say(
                    (*path, *details["loc"][:1]), f"expected {details['loc'][0]} as Compose writes it, found something else"
                )
            return ComposeService(name)
        environment, places = self.environment(service, path)
        return ComposeService(
            name,
            environment=environment,
            depends_on=self.depends_on(service, path, names),
            healthcheck=self.healthcheck(service, path),
            ports=self.ports(service, path),
            places=places,
            not_honoured=self.not_honoured(raw, path),
            restart=self.restart(service, path),
        )

    def environment(self, service: _Service, path: Loc) -> tuple[dict[str, str], dict[str, str]]:
        """The variables, those of `env_file` under those of `environment`, and where each stands."""
        values: dict[str, str] = {}
        places: dict[str, str] = {}
        for name, value, place in self.env_files(service, path):
            values[name], places[name] = value, place
        written = service.environment
        pairs: list[tuple[str, Any, Loc]]
        if isinstance(written, list):
            split = [(index, *entry.partition("=")) for index, entry in enumerate(written)]
            pairs = [(name, value if sign else None, (*path, "environment", index)) for index, name, sign, value in split]
        else:
            pairs = [(name, value, (*path, "environment", name)) for name, value in written.items()]
        for name, value, at in pairs:
            text = self.environ.get(name) if value is None else str(value)
            if text is not None:
                values[name], places[name] = text, self.document.place(at)
        return values, places

    def env_files(self, service: _Service, path: Loc) -> list[tuple[str, str, str]]:
        found = []
        entries = [service.env_file] if isinstance(service.env_file, str) else service.env_file
        for index, entry in enumerate(entries):
            at: Loc = (*path, "env_file", index)
            required = not isinstance(entry, dict) or entry.get("required", True)
            file = self.folder / str(entry.get("path", "") if isinstance(entry, dict) else entry)
            if not is_file(file):
                if required:
                    self.say(at, f"expected the file {shown(file)}, found no such file")
                continue
            for number, (name, value) in read_env_file(file).items():
                try:
                    found.append((name, interpolate(value, self.environ), f"{shown(file)}:{number}:1"))
                except Unset as error:
                    self.problems.append(Problem(shown(file), number, 1, str(error)))
        return found

    def depends_on(self, service: _Service, path: Loc, names: set[str]) -> dict[str, str]:
        written = service.depends_on
        entries: dict[str, dict[str, Any]] = {name: {} for name in written} if isinstance(written, list) else written
        found = {}
        for index, (name, how) in enumerate(entries.items()):
            at: Loc = (*path, "depends_on", index if isinstance(written, list) else name)
            condition = how.get("condition", "service_started")
            if name not in names:
                self.say(at, f"expected a service of this file, found {name!r}{nearest(name, names)}")
            elif condition not in ("service_started", "service_healthy"):
                self.say(
                    at,
                    f"expected the condition service_started or service_healthy, found {condition!r}",
                )
            else:
                found[name] = str(condition)
        return found

    def healthcheck(self, service: _Service, path: Loc) -> HealthCheck | None:
        written = service.healthcheck
        if written is None or written.get("disable") or written.get("test") in (["NONE"], "NONE"):
            return None
        at: Loc = (*path, "healthcheck")
        test = _health_test(written.get("test"))
        if test is None:
            self.say((*at, "test"), "expected test: as text, or a list that begins with CMD or CMD-SHELL")
            return None
        times: dict[str, float] = {}
        for key in ("interval", "timeout", "start_period"):
            if key in written:
                try:
                    times[key] = parse_duration(written[key])
                except ValueError as error:
                    self.say((*at, key), str(error))
        retries = written.get("retries", 3)
        if not isinstance(retries, int) or retries < 1:
            self.say((*at, "retries"), f"expected a whole number of at least 1, found {retries!r}")
            retries = 3
        return HealthCheck(test=test, retries=retries, **times)

    def ports(self, service: _Service, path: Loc) -> tuple[int, ...]:
        found = []
        for key, entries in (("ports", service.ports), ("expose", service.expose)):
            for index, entry in enumerate(entries):
                target = entry.get("target") if isinstance(entry, dict) else str(entry)
                match = re.fullmatch(r"(?:.*:)?(\d{1,5})(?:-\d{1,5})?(?:/(tcp|udp))?", str(target))
                if match is None or not is_port(int(match[1])):
                    self.say((*path, key, index), f"expected a port, found {target!r}")
                elif match[2] != "udp" and (not isinstance(entry, dict) or entry.get("protocol", "tcp") == "tcp"):
                    found.append(int(match[1]))
        return tuple(dict.fromkeys(found))

    def restart(self, service: _Service, path: Loc) -> str:
        """The restart policy; YAML reads a `no` without quotes as false."""
        written = service.restart
        if written is None or isinstance(written, bool):
            return "no" if written is False else ""
        if not RESTART.fullmatch(str(written)):
            expected = "no, always, unless-stopped, on-failure or on-failure:3"
            self.say((*path, "restart"), f"expected a restart policy, one of {expected}; found {written!r}")
        return str(written)

    def not_honoured(self, raw: dict[str, Any], path: Loc) -> tuple[Problem, ...]:
        known = REPLACED | HONOURED | HARMLESS
        message = "expected only what a run without containers can honour, found {!r}: take it out"
        return tuple(
            self.document.problem((*path, key), message.format(key), at_key=True)
            for key in raw
            if key not in known and not key.startswith("x-")
        )

    def whole(self) -> Compose:
        services = self.services()
        top = tuple(
            self.document.problem((key,), f"expected only what a run without containers can honour, found {key!r}", at_key=True)
            for key in self.document.data
            if key not in TOP_LEVEL and not key.startswith("x-")
        )
        return Compose(services, top)


def _health_test(test: Any) -> tuple[str, ...] | None:
    if isinstance(test, str):
        return ("/bin/sh", "-c", test)
    if not isinstance(test, list) or len(test) < 2 or not all(isinstance(word, str) for word in test):
        return None
    kind: Literal["CMD", "CMD-SHELL"] | str = test[0]
    if kind == "CMD":
        return tuple(test[1:])
    return ("/bin/sh", "-c", test[1]) if kind == "CMD-SHELL" else None


def read_env_file(path: Path) -> dict[int, tuple[str, str]]:
    """The variables of an env file by their line numbers: `NAME=value`, `#` comments, single or double quotes."""
    found = {}
    for number, line in enumerate(read_text(path, "an env file").splitlines(), 1):
        match = re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*", line)
        if match is None:
            if line.strip() and not line.strip().startswith("#"):
                raise InvalidFile((Problem(shown(path), number, 1, f"expected NAME=value, found {line.strip()[:40]!r}"),))
            continue
        name, value = match.groups()
        quoted = re.fullmatch(r"(['\"])(.*)\1(?:\s+#.*)?", value)
        if quoted is None:
            value = re.split(r"\s+#", value)[0]
        elif quoted[1] == "'":
            value = quoted[2].replace("$", "$$")
        else:
            value = quoted[2]
        found[number] = (name, value)
    return found


def read_compose(paths: Sequence[Path], environ: Mapping[str, str]) -> tuple[Compose, dict[str, Document]]:
    """Read Compose files, the later laid over the earlier; variables come from `environ`, then from `.env` beside the first."""
    beside = paths[0].parent / ".env"
    defaults = dict(read_env_file(beside).values()) if is_file(beside) else {}
    readers = [_Reader(path, {**defaults, **environ}) for path in paths]
    read = [reader.whole() for reader in readers]
    problems = tuple(problem for reader in readers for problem in reader.problems)
    if problems:
        raise InvalidFile(problems)
    services: dict[str, ComposeService] = {}
    for compose in read:
        for name, service in compose.services.items():
            services[name] = _laid_over(services[name], service) if name in services else service
    refused = tuple(problem for compose in read for problem in compose.not_honoured)
    return Compose(services, refused), {reader.document.file: reader.document for reader in readers}


def _laid_over(under: ComposeService, over: ComposeService) -> ComposeService:
    return ComposeService(
        under.name,
        environment={**under.environment, **over.environment},
        depends_on={**under.depends_on, **over.depends_on},
        healthcheck=over.healthcheck or under.healthcheck,
        ports=tuple(dict.fromkeys((*under.ports, *over.ports))),
        places={**under.places, **over.places},
        not_honoured=(*under.not_honoured, *over.not_honoured),
        restart=over.restart or under.restart,
    )
