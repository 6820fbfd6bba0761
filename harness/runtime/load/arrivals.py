"""When each arrival of the open model is due: a function of rate, kind and seed, and of nothing that happens."""

from __future__ import annotations

import random
from collections.abc import Iterator

from harness.model.rates import Course


def arrival_offsets(course: Course, kind: str, seed: int) -> Iterator[float]:
    """Seconds from the begin of the load to each arrival, without end; the first is due at once.

    `uniform` puts one wherever the course makes another whole one, by its own number, so that no rounding error adds up
    over an hour. `poisson` puts exponential gaps of mean one between the numbers: the same inversion, with chance.
    """
    if kind == "uniform":
        number = 0
        while True:
            yield course.moment_of(number)
            number += 1
    gaps = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    reached = 0.0
    while True:
        yield course.moment_of(reached)
        reached += gaps.expovariate(1.0)
