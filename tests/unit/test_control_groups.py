"""Control groups of both versions, on trees of plain files: where one can be made, what is written, what is read back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.runtime.services import limits
from harness.runtime.services.control_groups import CannotLimit, Counted, Group, Home, Kind, home_of, remove_group

MIB = 1024**2


class Machine:
    """A machine's /proc/self and its trees of groups, in a folder."""

    def __init__(self, folder: Path, mounts: dict[str, str], own: str) -> None:
        self.folder, self.proc = folder, folder / "proc"
        lines = []
        for at, options in mounts.items():
            (folder / at).mkdir(parents=True, exist_ok=True)
            kind = "cgroup2" if options.startswith("cgroup2") else "cgroup"
            root = options.partition("@")[2] or "/"
            lines.append(f"35 31 0:32 {root} {folder / at} rw,relatime - {kind} {kind} {options.partition('@')[0]}")
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda rw", *lines]) + "\n")
        (self.proc / "self" / "cgroup").write_text(own)

    def group(self, path: str, **files: str) -> Path:
        made = self.folder / path
        made.mkdir(parents=True, exist_ok=True)
        for name, text in {"cgroup.procs": "", **files}.items():
            (made / name.replace("__", ".")).write_text(text)
        return made


@pytest.fixture
def first(tmp_path: Path) -> Machine:
    """Version 1, as this process may find it in a group of its own."""
    machine = Machine(tmp_path, {"cpu": "rw,cpu,cpuacct", "memory": "rw,memory", "unified": "cgroup2 rw"}, OWN_FIRST)
    machine.group("cpu/of/mine", cpu__cfs_quota_us="-1\n")
    machine.group("memory", memory__limit_in_bytes="1\n")
    return machine


OWN_FIRST = "4:memory:/\n3:cpu,cpuacct:/of/mine\n0::/\n"


def second(folder: Path, own: str, subtrees: dict[str, str], controllers: str = "cpu memory pids") -> Machine:
    """Version 2; `subtrees` tells which controllers each group hands on."""
    machine = Machine(folder, {"all": "cgroup2 rw,nsdelegate"}, f"0::{own}\n")
    for path, handed_on in subtrees.items():
        machine.group(f"all/{path}", cgroup__subtree_control=handed_on + "\n", cgroup__controllers=controllers + "\n")
    return machine


def test_in_version_1_a_group_is_made_below_the_own_one_of_that_controller(first: Machine) -> None:
    cpu, memory = first.folder / "cpu/of/mine", first.folder / "memory"

    assert home_of("cpu", first.proc) == Home(1, cpu, cpu)
    assert home_of("memory", first.proc) == Home(1, memory, memory)


def test_in_version_2_a_group_is_made_below_the_nearest_one_that_hands_the_controller_on(tmp_path: Path) -> None:
    subtrees = {"": "cpu memory pids", "user.slice": "memory pids", "user.slice/mine": ""}
    machine = second(tmp_path, "/user.slice/mine", subtrees)
    own = tmp_path / "all/user.slice/mine"

    assert home_of("memory", machine.proc) == Home(2, tmp_path / "all/user.slice", own)
    assert home_of("cpu", machine.proc) == Home(2, tmp_path / "all", own)


def test_a_mount_that_shows_a_part_of_the_tree_is_reckoned_with(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"cpu": "rw,cpu@/docker/4f1e"}, "3:cpu:/docker/4f1e/inner\n")
    inner = machine.group("cpu/inner", cpu__cfs_quota_us="-1\n")

    assert home_of("cpu", machine.proc).folder == inner


@pytest.mark.parametrize(
    ("own", "subtrees", "why"),
    [
        ("/a", {"": "", "a": ""}, "no control group from .*/all/a upwards hands the controller cpu on"),
        ("/a", {"": "pids", "a": ""}, "no control group from .*/all/a upwards hands the controller cpu on"),
        ("/../b", {"": "cpu"}, r"the control group of this process \(/../b\) is outside of what .*/all shows"),
    ],
)
def test_why_nothing_can_be_limited_in_version_2_is_told(tmp_path: Path, own: str, subtrees: dict[str, str], why: str) -> None:
    with pytest.raises(CannotLimit, match=why):
        home_of("cpu", second(tmp_path, own, subtrees).proc)


def test_a_controller_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotLimit, match="the controller memory of Linux's control groups is not there"):
        home_of("memory", second(tmp_path, "/a", {"": "", "a": ""}, controllers="cpu pids").proc)


def test_a_system_without_control_groups_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotLimit, match="this system has no control groups"):
        home_of("cpu", tmp_path / "nowhere")


def test_a_kernel_that_cannot_limit_processors_is_told(first: Machine) -> None:
    (first.folder / "cpu/of/mine/cpu.cfs_quota_us").unlink()

    with pytest.raises(CannotLimit, match=r"this kernel has no limit of cpu for control groups \(.*/cpu.cfs_quota_us"):
        home_of("cpu", first.proc)


@pytest.mark.parametrize("closed", ["memory", "memory/cgroup.procs"])
def test_who_may_not_write_there_is_told_how_they_may(first: Machine, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != first.folder / closed)

    with pytest.raises(CannotLimit, match=f"{closed} cannot be written to: run it as root, or, with systemd, in a scope"):
        home_of("memory", first.proc)


def test_what_this_machine_does_not_allow_is_told_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_of_memory(kind: Kind) -> Home:
        if kind == "memory":
            raise CannotLimit("it is full")
        return Home(1, Path("/"), Path("/"))

    monkeypatch.setattr(limits, "home_of", none_of_memory)

    assert limits.cannot_limit() == {"memory": "it is full"}


FILES = {
    1: {
        "cpu.cfs_period_us": "50000",
        "cpu.cfs_quota_us": "-1",
        "cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 17\n",
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.failcnt": "3",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    2: {
        "cpu.max": "max 100000",
        "cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 17\n",
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n",
    },
}


@pytest.fixture(params=[1, 2])
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Group:
    folder = tmp_path / "chaos-made"
    folder.mkdir()
    for name, text in {**FILES[request.param], "cgroup.procs": "17\n4\n"}.items():
        (folder / name).write_text(text.strip() + "\n")
    return Group(request.param, folder)


def test_a_limit_is_read_back_and_lifted_again(group: Group) -> None:
    assert (group.limit_of("cpu"), group.limit_of("memory")) == (None, None)

    group.limit("cpu", 0.25)
    group.limit("memory", 64 * MIB)

    assert (group.limit_of("cpu"), group.limit_of("memory")) == (0.25, 64 * MIB)
    group.lift("cpu")
    assert (group.limit_of("cpu"), group.limit_of("memory")) == (None, 64 * MIB)
    group.lift("memory")
    assert group.limit_of("memory") is None or group.limit_of("memory") == -1  # the kernel makes its highest number of it


def test_a_limit_of_memory_is_one_of_swap_too(group: Group) -> None:
    group.limit("memory", 64 * MIB)

    swap = {1: ("memory.memsw.limit_in_bytes", 64 * MIB), 2: ("memory.swap.max", 0)}
    name, value = swap[group.version]
    assert int((group.folder / name).read_text()) == value


def test_a_kernel_that_does_not_count_swap_is_no_obstacle(group: Group) -> None:
    swap = group.folder / {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}[group.version]
    swap.unlink()

    group.limit("memory", 64 * MIB)
    group.lift("memory")

    assert not swap.exists()


def test_a_group_that_a_kernel_writes_as_limited_otherwise_is_told_as_it_is(group: Group) -> None:
    name = {1: "cpu.cfs_quota_us", 2: "cpu.max"}[group.version]
    (group.folder / name).write_text({1: "20000\n", 2: "40000 100000\n"}[group.version])

    assert group.limit_of("cpu") == 0.4


def test_what_a_group_has_counted_is_told(group: Group) -> None:
    assert group.counted("cpu") == Counted(throttled=4)
    assert group.counted("memory") == Counted(refused=3, killed=2)
    assert group.members() == {4, 17}


@pytest.mark.parametrize("name", ["somebody-elses", "chaos-no-group"])
def test_nothing_is_removed_that_is_no_group_of_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    why = remove_group(str(tmp_path / name), str(tmp_path))

    assert why is not None
    assert "nothing else is ever removed" in why
    assert (tmp_path / name).exists()


def test_a_group_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    assert remove_group(str(tmp_path / "chaos-gone"), str(tmp_path)) is None
