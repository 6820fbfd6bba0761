"""What was counted, in Prometheus' text format: Toxiproxy's names where it has them, counted while traffic flows."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path

from harness import __version__
from harness.runtime.proxies.embedded.proxies import Proxy

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

FAMILIES = {
    "toxiproxy_proxy_received_bytes_total": ("counter", "Bytes read, before all toxics."),
    "toxiproxy_proxy_sent_bytes_total": ("counter", "Bytes passed on, after all toxics."),
    "chaos_proxy_build_info": ("gauge", "The versions of the engine and of the Toxiproxy API it speaks."),
    "chaos_proxy_enabled": ("gauge", "Whether the proxy listens."),
    "chaos_proxy_toxic": ("gauge", "A toxic that is set; its toxicity."),
    "chaos_proxy_struck_total": ("counter", "How often each toxic acted: connections, or requests for those of HTTP."),
    "chaos_proxy_open_connections": ("gauge", "Connections that are open."),
    "chaos_proxy_accepted_connections_total": ("counter", "Connections accepted."),
    "chaos_proxy_refused_connections_total": (
        "counter",
        "Attempts, repeated ones too, refused by a fault; absent where some went unseen.",
    ),
    "chaos_proxy_cut_connections_total": ("counter", "Connections closed by a fault."),
    "chaos_proxy_unreached_connections_total": ("counter", "Connections whose upstream could not be reached."),
    "chaos_proxy_requests_total": ("counter", "HTTP/1.1 requests as callers sent them; absent where none were seen."),
    "chaos_proxy_answers_total": ("counter", "Answers that reached the caller, by status; 0: none came."),
    "process_cpu_seconds_total": ("counter", "Total user and system CPU time spent in seconds."),
    "process_open_fds": ("gauge", "Number of open file descriptors."),
    "process_max_fds": ("gauge", "Maximum number of open file descriptors."),
    "process_resident_memory_bytes": ("gauge", "Resident memory size in bytes."),
    "process_virtual_memory_bytes": ("gauge", "Virtual memory size in bytes."),
    "process_start_time_seconds": ("gauge", "Start time of the process since unix epoch in seconds."),
}
"""Every name that is told, with its kind and its help, in the order of the page."""

AT_ONCE = 20
"""Proxies that are told of before connections have their turn."""

_STARTED = time.time()
_PROC = Path("/proc/self")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Page:
    """The text in the making."""

    def __init__(self) -> None:
        self._samples: dict[str, list[str]] = {name: [] for name in FAMILIES}

    def add(self, name: str, value: float | None, **labels: str) -> None:
        """One sample; none where the value is not known."""
        if value is not None:
            written = ",".join(f'{label}="{text.translate(_ESCAPED)}"' for label, text in labels.items())
            self._samples[name].append(f"{name}{{{written}}} {+value}\n" if written else f"{name} {+value}\n")

    def as_bytes(self) -> bytes:
        """Names without a sample are left out."""
        parts = []
        for name, samples in self._samples.items():
            if samples:
                kind, text = FAMILIES[name]
                parts += [f"# HELP {name} {text}\n# TYPE {name} {kind}\n", *samples]
        return "".join(parts).encode("utf-8", "replace")


async def page(proxies: Iterable[Proxy], speaks: str, *, of_process: bool) -> bytes:
    """The whole page, on wish with what the process itself uses. `speaks` is the version of Toxiproxy's API.

    However many proxies there are, their connections go on meanwhile.
    """
    made = Page()
    made.add("chaos_proxy_build_info", 1, api=speaks, version=__version__)
    for place, proxy in enumerate(proxies):
        if place % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        _add_bytes(made, proxy)
        _add_toxics(made, proxy)
        _add_connections(made, proxy)
        _add_requests(made, proxy)
    if of_process:
        _add_process(made)
    return made.as_bytes()


def _add_bytes(made: Page, proxy: Proxy) -> None:
    counts = proxy.counts
    of_upstream = ("upstream", counts.bytes_up, counts.kept_up)
    of_downstream = ("downstream", counts.bytes_down, counts.kept_down)
    for direction, sent, kept in (of_upstream, of_downstream):
        labels = {"direction": direction, "listener": proxy.listen, "proxy": proxy.name, "upstream": proxy.upstream_text}
        made.add("toxiproxy_proxy_received_bytes_total", sent + kept, **labels)
        made.add("toxiproxy_proxy_sent_bytes_total", sent, **labels)


def _add_toxics(made: Page, proxy: Proxy) -> None:
    made.add("chaos_proxy_enabled", proxy.enabled, proxy=proxy.name)
    for toxic in proxy.toxics:
        data = toxic.as_data()
        labels = {"proxy": proxy.name, "stream": data["stream"], "toxic": data["name"], "type": data["type"]}
        made.add("chaos_proxy_toxic", data["toxicity"], **labels)
    for name, times in proxy.counts.struck.items():
        made.add("chaos_proxy_struck_total", times, proxy=proxy.name, toxic=name)


def _add_connections(made: Page, proxy: Proxy) -> None:
    counts = proxy.counts
    made.add("chaos_proxy_open_connections", counts.open, proxy=proxy.name)
    made.add("chaos_proxy_accepted_connections_total", counts.accepted, proxy=proxy.name)
    made.add("chaos_proxy_refused_connections_total", counts.refused, proxy=proxy.name)
    made.add("chaos_proxy_cut_connections_total", counts.cut, proxy=proxy.name)
    made.add("chaos_proxy_unreached_connections_total", counts.unreached, proxy=proxy.name)


def _add_requests(made: Page, proxy: Proxy) -> None:
    counts = proxy.counts
    if counts.is_http:
        made.add("chaos_proxy_requests_total", counts.requests, proxy=proxy.name)
    for status, times in sorted(counts.answers.items()):
        made.add("chaos_proxy_answers_total", times, proxy=proxy.name, status=str(status))


def _add_process(made: Page) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    made.add("process_cpu_seconds_total", used.ru_utime + used.ru_stime)
    made.add("process_start_time_seconds", _STARTED)
    made.add("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if _PROC.exists():  # on Linux alone
        pages = (_PROC / "statm").read_text().split()
        size = os.sysconf("SC_PAGE_SIZE")
        made.add("process_open_fds", len(list((_PROC / "fd").iterdir())) - 1)  # without the one that lists them
        made.add("process_virtual_memory_bytes", int(pages[0]) * size)
        made.add("process_resident_memory_bytes", int(pages[1]) * size)
