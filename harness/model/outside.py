"""Hosts outside the system that the environment of a service names: what it would call where nothing keeps it in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from harness.model.edges import HOST_VARIABLE

_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://(?:[^\s/?#\"'@]*@)?(?P<hosts>[^\s/?#\"'@]+)")
_HOST = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_SEPARATORS = re.compile(r"[,;\s]+")


def outside_hosts(variable: str, value: str, known: Collection[str]) -> tuple[str, ...]:
    """The hosts in a value that are neither of the system nor this machine itself, each once.

    Of what is no URL only a variable that is called after hosts counts, and in it what has a dot or is an address: a
    bare word may mean anything.
    """
    named = {name.lower() for name in known}
    hosts = _in_urls(value) if "://" in value else _bare(variable, value)
    return tuple(dict.fromkeys(host for host in hosts if host not in named and not is_here(host)))


def is_here(host: str) -> bool:
    """Whether it means this machine, or none at all."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _in_urls(value: str) -> Iterator[str]:
    for url in _AUTHORITY.finditer(value):
        for piece in url["hosts"].split(","):
            if (found := _HOST.fullmatch(piece)) is not None:
                yield found["host"].strip("[]").lower()


def _bare(variable: str, value: str) -> Iterator[str]:
    if HOST_VARIABLE.search(variable) is None:
        return
    for piece in _SEPARATORS.split(value):
        found = _HOST.fullmatch(piece)
        if found is not None and ("." in found["host"] or ":" in found["host"]):
            yield found["host"].strip("[]").lower()
