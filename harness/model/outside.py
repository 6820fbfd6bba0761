"""Hosts outside the system that the environment of a service names: what it would call where nothing keeps it in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from harness.model.edges import HOST_VARIABLE
from harness.model.secrets import RAW_PASSWORD

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,30}://"
_AUTHORITY = re.compile(rf"{_SCHEME}(?:[^\s/?#\"'\\]*@)?(?P<hosts>[^\s/?#\"'@]+)")
_NEXT_URL = re.compile(rf"(?<![,;|\s])[,;|\s]+(?={_SCHEME})")
_OF_A_HOST = re.compile(r";(?:server(?:name)?|host(?:name)?|failoverpartner)=", re.IGNORECASE)
"""Properties behind a URL's host that name another: `jdbc:sqlserver://;serverName=…`."""

_PROPERTY = re.compile(r";[\w.-]*=[^;:,]*(?=;|$)")
_ON_NETWORK = re.compile(r"\w+\((?P<address>[^()]*)\)?")
_WITH_DEFAULT = re.compile(r"\$?\{[\w.-]*:[-=?+]?([^{}]*)\}")
_TO_FILL_IN = re.compile(r"\$\{[\w.]*\}?|\$?\{[\w-]*\}?")
_PORT = re.compile(r":\d*$")
_HOST = re.compile(r"(?:[A-Za-z][A-Za-z0-9+-]*:)?(?P<host>\w[\w.-]*|\[[0-9A-Fa-f:.]+\])(?::\d*)?(?:/.*)?")
_SEPARATORS = re.compile(r"[,;|\s]+")
_EVERY_ADDRESS = ("", "*", "+")
"""What stands in the place of a host where somebody says at which address to listen: at all."""


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
    """The hosts of all URLs; what is none as far as anybody knows here may be one to its client, and is told as it stands."""
    plain = RAW_PASSWORD.sub(r"\1", _WITH_DEFAULT.sub(r"\1", value))
    for url in (found for part in _NEXT_URL.split(plain) for found in _AUTHORITY.finditer(part)):
        for piece in re.split("[,;]", _PROPERTY.sub("", _OF_A_HOST.sub(";", url["hosts"]))):
            host = _host_of(piece)
            if host not in _EVERY_ADDRESS and not _TO_FILL_IN.fullmatch(host):
                yield host


def _host_of(piece: str) -> str:
    """The host in one piece of a URL's authority: without port, without what stood around the URL, and out of `tcp(…)`."""
    if (found := _ON_NETWORK.fullmatch(piece)) is not None:
        piece = found["address"]
    return _plain(_PORT.sub("", piece.rstrip(">)};" if piece.startswith("[") else ">)}];")))


def _bare(variable: str, value: str) -> Iterator[str]:
    if HOST_VARIABLE.search(variable) is None:
        return
    for piece in _SEPARATORS.split(value):
        found = _HOST.fullmatch(piece)
        if found is not None and ("." in found["host"] or ":" in found["host"]):
            yield _plain(found["host"])


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
