"""Every kind of input that the harness reads, and what reads it."""

from __future__ import annotations

from tests.fuzz.channels import CHANNELS
from tests.fuzz.engines import ENGINES
from tests.fuzz.files import FILES
from tests.fuzz.runs import RUNS
from tests.fuzz.trying import Kind

KINDS: tuple[Kind, ...] = (*FILES, *RUNS, *ENGINES, *CHANNELS)
