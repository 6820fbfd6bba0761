"""When each arrival of the open model is due: a function of rate, kind and seed, and of nothing that happens."""

from __future__ import annotations

import random
from collections.abc import Iterator


def arrival_offsets(rate: float, kind: str, seed: int) -> Iterator[float]:
    """Seconds from the begin of the load to each arrival, without end; the first is due at once.

    `uniform` is computed by multiplication, so that no rounding error adds up over an hour.
    """
    if kind == "uniform":
        number = 0
        while True:
            yield number / rate
            number += 1
    gaps = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    offset = 0.0
    while True:
        yield offset
        offset += gaps.expovariate(rate)
