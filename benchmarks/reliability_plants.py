"""Leaks that are planted on purpose: a detector that does not find them proves nothing.

`python -m benchmarks.reliability_plants` plants each kind in a process of its own, and prints what was found of each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.reliability_figures import problems_of
from benchmarks.reliability_kernel import inherit_orphans
from benchmarks.reliability_left import Traces, remove_all, toxics_on
from harness.runtime.services.control_groups import CannotLimit, home_of

PROJECT = Path(__file__).parent.parent
WAIT = "import time; time.sleep(600)"
RUN = "20260101-000000-abcdef"
IPC_CREAT, IPC_RMID, KILOBYTE = 0o1000, 0, 1024

Plant = Callable[[Traces, ExitStack], None]


def found_by_kind() -> dict[str, list[str]]:
    """Plant everything that can be planted here; what the detector said of each. In a process that inherits orphans."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reliability_plants"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def table(found: dict[str, list[str]]) -> list[str]:
    """Rows of what was planted."""
    kinds = {kind: dict.fromkeys(one.partition(":")[0] for one in seen) for kind, seen in found.items()}
    rows = [f"| {kind} | {', '.join(told) or '**not found**'} |" for kind, told in kinds.items()]
    return ["| left on purpose | found as |", "|---|---|", *rows]


def process(_traces: Traces, _clearing: ExitStack) -> None:
    """One that has left its family: a session of its own, its parent gone."""
    _leave_behind({})


def foreign_process(traces: Traces, _clearing: ExitStack) -> None:
    """One that is no orphan of the run, as an engine might start it: the run's folder is in its environment."""
    inherit_orphans(yes=False)
    _leave_behind({"TMPDIR": str(traces.temporary)})
    inherit_orphans()


def paused_process(_traces: Traces, _clearing: ExitStack) -> None:
    """A service that nobody lets go on."""
    standing = _python(WAIT)
    standing.send_signal(signal.SIGSTOP)
    time.sleep(0.1)


def temporary_folder(traces: Traces, _clearing: ExitStack) -> None:
    """A run's temporary folder."""
    (traces.temporary / "chaos-0123456789ab").mkdir()


def registered_run(traces: Traces, _clearing: ExitStack) -> None:
    """A run that the machine's register still knows."""
    traces.register.mkdir(parents=True)
    (traces.register / f"{RUN}.json").write_text("{}", encoding="utf-8")


def draft(traces: Traces, _clearing: ExitStack) -> None:
    """A report that was begun."""
    (_run(traces) / "report.html.0123.part").write_text("", encoding="utf-8")


def listener(traces: Traces, _clearing: ExitStack) -> None:
    """A port that somebody holds who is not of the family any more: seen once, it is known again."""
    held = socket.create_server(("127.0.0.1", 0))
    holder = _python(WAIT, fds=(held.fileno(),))
    held.close()
    traces.look()
    assert holder.poll() is None


def toxic(traces: Traces, clearing: ExitStack) -> None:
    """A fault on an engine that lives."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxies = [{"name": "front", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": True, "toxics": [_HANGING]}]
    proxies.append({"name": "off", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": False})
    config = traces.folder / "toxics.json"
    config.write_text(json.dumps(proxies), encoding="utf-8")
    engine = [sys.executable, "-m", "harness.runtime.proxies.embedded", "--port", str(port), "--config", str(config)]
    clearing.callback(subprocess.Popen(engine, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).kill)
    _journal(traces, {"undo": "RestoreProxies", "control": f"http://127.0.0.1:{port}"})
    until = time.monotonic() + 20
    while not toxics_on(f"127.0.0.1:{port}") and time.monotonic() < until:
        time.sleep(0.05)


_HANGING = {"name": "hanging", "type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}


def dumb_engine(traces: Traces, clearing: ExitStack) -> None:
    """An engine that does not say what is on."""
    held = clearing.enter_context(socket.create_server(("127.0.0.1", 0)))
    holder = _python(WAIT, fds=(held.fileno(),))
    assert holder.poll() is None
    _journal(traces, {"undo": "RestoreProxies", "control": f"http://127.0.0.1:{held.getsockname()[1]}"})


def control_group(traces: Traces, clearing: ExitStack) -> None:
    """A limit that nobody lifted."""
    group = home_of("cpu").folder / "chaos-planted"
    group.mkdir(exist_ok=True)
    clearing.callback(group.rmdir)
    _journal(traces, {"undo": "RemoveControlGroup", "path": str(group)})


def shared_memory(traces: Traces, clearing: ExitStack) -> None:
    """A database's memory that outlived it."""
    import ctypes

    libc = ctypes.CDLL(None)
    number = libc.shmget(0, KILOBYTE, IPC_CREAT | 0o600)
    clearing.callback(libc.shmctl, number, IPC_RMID, None)
    traces.pids.add(os.getpid())


def docker_network(traces: Traces, clearing: ExitStack) -> None:
    """What Compose makes first, and takes away last."""
    _run(traces)
    label = {"com.docker.compose.project": traces.projects()[0]}
    made = traces.engine.networks.create("planted", labels=label)
    clearing.callback(made.remove)


def docker_volume(traces: Traces, clearing: ExitStack) -> None:
    """Data without a container."""
    _run(traces)
    made = traces.engine.volumes.create(labels={"com.docker.compose.project": traces.projects()[0]})
    clearing.callback(made.remove)


PLANTS: dict[str, tuple[Plant, set[str]]] = {
    "a process without a family": (process, {"process"}),
    "a process of another family": (foreign_process, {"process"}),
    "a paused service": (paused_process, {"process", "paused"}),
    "a temporary folder": (temporary_folder, {"temporary"}),
    "a registered run": (registered_run, {"registered"}),
    "half a report": (draft, {"draft"}),
    "a port": (listener, {"listener"}),
    "toxics and a disabled proxy": (toxic, {"toxic", "disabled"}),
    "an engine that says nothing": (dumb_engine, {"proxy"}),
    "a control group": (control_group, {"control group", "limited"}),
    "shared memory": (shared_memory, {"shared memory"}),
}
"""What is planted, and the kinds that the detector must tell of it."""

ON_DOCKER: dict[str, tuple[Plant, set[str]]] = {
    "a network on Docker": (docker_network, {"network"}),
    "a volume on Docker": (docker_volume, {"volume"}),
}


def plant(how: Plant, must: set[str], engine: Any = None) -> list[str]:
    """Plant it, and say what of it is found, of what is left and of faults that are on; nothing where a kind is missed."""
    with _traces(engine) as traces, ExitStack() as clearing:
        assert not traces.left(), "before anything was planted, something was found"
        how(traces, clearing)
        traces.look()
        found = [*traces.left(), *traces.faults()]
        told = {str(one).replace(str(traces.folder), "…") for one in found if one.kind in must}
        return sorted(told) if must <= {one.kind for one in found} else []


def wrong_answers() -> list[str]:
    """A killed run that passes, in the words in which it would be told."""
    row = {"kind": "kills", "struck": "fault", "judged": 0, "word": "passed", "events": ["RunBegan"]}
    found = problems_of({**row, "left": [], "faults": [], "ended": 0.0, "traceback": ""})
    return [f"wrong: {problem}" for problem in found]


@contextmanager
def _traces(engine: Any) -> Iterator[Traces]:
    traces = Traces(Path(tempfile.mkdtemp(prefix="rel-")).resolve(), engine)
    traces.temporary.mkdir()
    try:
        yield traces
    finally:
        remove_all(traces)
        shutil.rmtree(traces.folder)


def _leave_behind(variables: dict[str, str]) -> None:
    """A process whose parent is gone."""
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{WAIT}'], start_new_session=True)"
    _python(program, variables=variables).wait()


def _python(program: str, fds: Sequence[int] = (), variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **(variables or {})}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, pass_fds=fds, cwd="/")


def _run(traces: Traces) -> Path:
    run = traces.folder / "reports" / "short" / RUN
    run.mkdir(parents=True, exist_ok=True)
    return run


def _journal(traces: Traces, undo: dict[str, str]) -> None:
    with (_run(traces) / "undo.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "1", **undo}) + "\n")


def _engine() -> Any:
    from harness.errors import MissingPart
    from harness.runtime.containers.engine import find_engine

    try:
        return find_engine(os.environ).client()
    except MissingPart:
        return None


def main() -> None:
    """Plant everything, one after the other."""
    inherit_orphans()
    plants = dict(PLANTS)
    try:
        home_of("cpu")
    except CannotLimit:
        del plants["a control group"]
    found = {kind: plant(how, must) for kind, (how, must) in plants.items()}
    if (engine := _engine()) is not None:
        found |= {kind: plant(how, must, engine) for kind, (how, must) in ON_DOCKER.items()}
    found["a killed run that passes"] = wrong_answers()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
