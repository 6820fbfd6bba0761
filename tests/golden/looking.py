"""Opens a page in a headless Chromium, as wide as one likes, and says what was found there."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
    "--window-size=1300,900",
    "--dump-dom",
]

MEASURE = (
    "<script>{const e=document.documentElement;parent.postMessage([e.scrollWidth,innerWidth].join(' '),'*')}</script></body>"
)
FRAME = (
    "<!doctype html><script>onmessage=e=>document.documentElement.dataset.looked=e.data</script>"
    "<iframe src='page.html' width='{width}' height='900' style='border:0'></iframe>"
)


@dataclass(frozen=True)
class Looked:
    """How wide the page became, how wide its window was, and what it wrote to the console."""

    page: int
    window: int
    console: tuple[str, ...]


def look(browser: str, html: str, width: int, folder: Path) -> Looked:
    """Open the page in a frame, for a window of Chromium is never narrower than 500 px."""
    (folder / "page.html").write_text(MEASURE.join(html.rsplit("</body>", 1)), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", frame.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    sizes = re.search(r'data-looked="(\d+) (\d+)"', found.stdout)
    assert sizes is not None, found.stderr[-2000:]
    console = tuple(line for line in found.stderr.splitlines() if "CONSOLE" in line)
    return Looked(int(sizes[1]), int(sizes[2]), console)
