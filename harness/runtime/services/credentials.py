"""Who the services of a system say they are when they connect to a database, read from their URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from harness.model.edges import Mention, find_mentions
from harness.runtime.ports import Address

_BEFORE_HOST = re.compile(r"://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?:[^@/\s]*,)?$")
_AFTER_HOST = re.compile(r"(?:,[^/\s]*)?/(?P<path>[^?#\s/]*)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One URL's user, password and database, as far as it has them; `place` is the service and variable it stands in."""

    user: str
    password: str
    database: str
    place: str


def credentials_for(service: str, environments: Mapping[str, Mapping[str, str]]) -> tuple[Credentials, ...]:
    """What every URL that leads to this service says, in the order of the services."""
    found = []
    for caller, variables in environments.items():
        for variable, value in variables.items():
            for mention in find_mentions(variable, value, {service}):
                found.append(_read(value, mention, f"{caller}.{variable}"))
    return tuple(one for one in found if one is not None)


def _read(value: str, mention: Mention, place: str) -> Credentials | None:
    before = _BEFORE_HOST.search(value[: mention.start])
    if before is None:
        return None
    after = _AFTER_HOST.match(value[mention.end :])
    return Credentials(
        user=unquote(before["user"] or ""),
        password=unquote(before["password"] or ""),
        database=unquote(after["path"]) if after else "",
        place=place,
    )


def url_of(service: str, database: str, address: Address, environments: Mapping[str, Mapping[str, str]]) -> str | None:
    """How a database of a service is reached at an address, as one of its callers says who it is; None where none does."""
    for one in credentials_for(service, environments):
        if one.database == database and one.user:
            user = f"{quote(one.user, safe='')}:{quote(one.password, safe='')}"
            return f"postgresql://{user}@{address}/{database}"
    return None
