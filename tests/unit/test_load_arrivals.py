"""When arrivals are due."""

from __future__ import annotations

from itertools import islice, pairwise

from harness.runtime.load.arrivals import arrival_offsets


def test_uniform_arrivals_do_not_drift() -> None:
    offsets = list(islice(arrival_offsets(80.0, "uniform", 1), 80 * 3600 + 1))

    assert offsets[0] == 0.0
    assert offsets[-1] == 3600.0
    assert offsets[1] == 0.0125


def test_poisson_arrivals_keep_the_rate_and_vary_as_poisson_arrivals_do() -> None:
    offsets = list(islice(arrival_offsets(100.0, "poisson", 1), 50_001))
    gaps = [later - earlier for earlier, later in pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)

    assert offsets[0] == 0.0
    assert 0.98 < mean * 100 < 1.02
    assert 0.95 < variance / mean**2 < 1.05  # that of an exponential distribution is 1


def test_poisson_arrivals_are_those_of_the_seed() -> None:
    first, again, other = (list(islice(arrival_offsets(50.0, "poisson", seed), 20)) for seed in (3, 3, 4))

    assert first == again
    assert first != other
