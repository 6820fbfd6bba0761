"""The Compose file's `restart:`, as it is kept without containers."""

from __future__ import annotations

import pytest

from harness.runtime.services import restarting
from harness.runtime.services.restarting import Restarts


@pytest.mark.parametrize(
    ("policy", "after_an_error", "after_a_good_end"),
    [
        ("", False, False),
        ("no", False, False),
        ("always", True, True),
        ("unless-stopped", True, True),
        ("on-failure", True, False),
        ("on-failure:3", True, False),
    ],
)
def test_a_policy_decides_by_how_the_service_ended(policy: str, after_an_error: bool, after_a_good_end: bool) -> None:
    assert Restarts(policy).wanted(1) is after_an_error
    assert Restarts(policy).wanted(-9) is after_an_error
    assert Restarts(policy).wanted(0) is after_a_good_end


def test_a_policy_with_a_number_gives_up_after_it() -> None:
    restarts = Restarts("on-failure:2")

    restarts.count()
    assert restarts.wanted(1)
    restarts.count()

    assert not restarts.wanted(1)


def test_each_start_comes_later_than_the_one_before_until_the_service_ran_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(restarting.time, "monotonic", lambda: now[0])
    restarts = Restarts("always", tries=6)

    assert not restarts.is_due()
    now[0] += 5.3
    assert not restarts.is_due()
    now[0] += 0.2
    assert restarts.is_due()

    restarts.count()
    restarts.see_running(9.0)
    assert restarts.tries == 7
    restarts.see_running(11.0)
    assert restarts.tries == 0
    assert restarts.is_due()
