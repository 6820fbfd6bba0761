"""`requests`, over in time: its own timeouts are for each piece of an answer, these are for the whole."""

from __future__ import annotations

from typing import Any

import requests
import urllib3.connection
import urllib3.connectionpool
from requests.adapters import HTTPAdapter

from harness.runtime.bounded import BoundedSocket


class _Connection(urllib3.connection.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        assert self.sock is not None
        self.sock = BoundedSocket.of(self.sock, self.sock.gettimeout())


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **given: Any) -> None:
        super().init_poolmanager(*args, **given)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool}


def bounded_session() -> requests.Session:
    """A session for http:// alone, which obeys nothing of the environment; a `timeout` is for each whole answer."""
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", _Adapter())
    return session
