"""However a run's records lie on disk, whole or damaged, they are judged with what there is, to the same bytes, and never fall over."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import InvalidInput, UnreadableRun
from harness.experiment import judge_folder
from harness.history.history import read_history
from harness.history.store import NOTES, PARQUET, REQUESTS, pack_requests, record_files
from harness.judge.judge import judge
from harness.judge.verdict import verdict_to_json
from harness.runtime.registry import leave, register, unlock
from harness.runtime.undo import RemoveFolder, UndoJournal, describe
from tests.histories.building import Damage, Story, tell, write_run
from tests.histories.shop import WEIGHTS

SLOW = settings(max_examples=8, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
STORY = Story(rate=20.0)

damages = st.builds(
    Damage,
    journey=st.sampled_from([*WEIGHTS, "*"]),
    begin=st.floats(0, 60),
    end=st.floats(5, 65),
    share=st.sampled_from([0.05, 0.3, 1.0]),
    outcome=st.sampled_from(["ok", "http_5xx", "unfinished", "dropped"]),
    later=st.sampled_from([0.0, 0.05, 2.0]),
)


def judged(folder: Path) -> str:
    return verdict_to_json(judge(read_history(folder)))


@SLOW
@given(st.lists(damages, max_size=2), st.integers(1, 5), st.integers(0, 99))
def test_lines_in_any_order_and_in_any_number_of_files_are_judged_to_the_same_bytes(
    damage: list[Damage], files: int, seed: int
) -> None:
    with TemporaryDirectory() as name:
        folder = write_run(STORY.with_damage(*damage), Path(name) / "run")
        before = judged(folder)
        lines = (folder / REQUESTS).read_bytes().splitlines(keepends=True)
        Random(seed).shuffle(lines)
        for number in range(files):
            (folder / (f"requests-{number}.jsonl" if number else REQUESTS)).write_bytes(b"".join(lines[number::files]))

        split = judged(folder)
        pack_requests(folder)

        assert not record_files(folder)
        assert before == split == judged(folder)


@SLOW
@given(st.lists(damages, max_size=2))
def test_judging_twice_is_judging_once_on_disk_too(damage: list[Damage]) -> None:
    with TemporaryDirectory() as name:
        folder = write_run(STORY.with_damage(*damage), Path(name) / "run")
        first = judge_folder(folder)
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

        second = judge_folder(folder)

        assert second.verdict == first.verdict
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == files


@pytest.mark.parametrize("packed", [False, True])
def test_records_cut_off_in_the_middle_of_a_line_are_judged_with_what_is_whole_and_the_loss_is_named(
    packed: bool, tmp_path: Path
) -> None:
    folder = write_run(STORY, tmp_path / "run")
    whole = (folder / REQUESTS).read_bytes()
    (folder / REQUESTS).write_bytes(whole[: len(whole) // 2 + 7])
    if packed:
        pack_requests(folder)

    verdict = judge_folder(folder).verdict

    assert verdict.word == "inconclusive"
    assert "1 line of the load's records could not be read: cut off, or damaged" in verdict.warnings
    load = next(proof for proof in verdict.evidence if proof.kind == "load")
    assert "requests left no record" in load.why


def test_a_line_damaged_in_the_middle_of_a_run_costs_that_line_and_is_told(tmp_path: Path) -> None:
    folder = write_run(Story(), tmp_path / "run")
    lines = (folder / REQUESTS).read_bytes().splitlines(keepends=True)
    lines[2000] = lines[2000][:40] + b"\x00\x00" + lines[2000][45:]
    (folder / REQUESTS).write_bytes(b"".join(lines))

    run = judge_folder(folder)

    assert len(read_history(folder).requests) == len(lines) - 3
    assert "1 line of the load's records could not be read: cut off, or damaged" in run.verdict.warnings
    assert "1 line of the load" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_clock_that_steps_leaves_a_verdict_and_a_page(tmp_path: Path) -> None:
    """From the middle of the fault on everything ends, by its own account, before it began."""
    history = tell(STORY)
    folder = write_run(STORY, tmp_path / "run")
    stepped = [one._replace(end=one.end - 30.0) if number > 650 else one for number, one in enumerate(history.requests)]
    lines = [*history.notes, *(request._asdict() for request in stepped)]
    (folder / REQUESTS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    run = judge_folder(folder)

    assert run.verdict.word
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("lost", [[REQUESTS], [PARQUET], [NOTES], [PARQUET, NOTES]])
def test_a_run_that_lost_a_file_of_records_never_passes_and_never_falls_over(lost: list[str], tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "run")
    if lost != [REQUESTS]:
        pack_requests(folder)
    for name in lost:
        (folder / name).unlink()

    assert judge_folder(folder).verdict.word == "inconclusive"


def test_what_the_load_said_of_itself_may_be_lost_without_its_requests(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "run")
    pack_requests(folder)
    (folder / NOTES).unlink()

    assert len(read_history(folder).requests) == 1300


def test_where_the_columns_cannot_be_read_it_is_said_so(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "run")
    pack_requests(folder)
    whole = (folder / PARQUET).read_bytes()
    (folder / PARQUET).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(UnreadableRun, match=r"requests\.parquet: expected a Parquet file of requests"):
        judge_folder(folder)


def test_where_the_columns_cannot_be_written_the_lines_are_judged(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "run")
    before = judged(folder)
    (folder / PARQUET).mkdir()

    assert verdict_to_json(judge_folder(folder).verdict) == before
    assert record_files(folder) == [folder / REQUESTS]
    assert not list(folder.glob("*.part"))


def test_where_nothing_can_be_written_it_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(STORY, tmp_path / "run")
    names = {path.name for path in folder.iterdir()}

    def read_only(_length: int) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.history.drafts.secrets.token_hex", read_only)

    with pytest.raises(InvalidInput, match=r"expected a folder that the verdict can be written to, found: .*Permission denied"):
        judge_folder(folder)
    assert {path.name for path in folder.iterdir()} == names


def test_where_the_lines_cannot_be_read_it_is_said_so(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "run")
    (folder / REQUESTS).unlink()
    (folder / REQUESTS).mkdir()

    with pytest.raises(UnreadableRun, match=r"expected the load's records, found: .*requests\.jsonl"):
        judge_folder(folder)


def test_a_later_version_may_have_more_columns_and_none_may_have_less(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "run")
    before = judged(folder)
    pack_requests(folder)
    table = pq.read_table(folder / PARQUET)

    pq.write_table(table.append_column("region", pa.array(["north"] * len(table))), folder / PARQUET)
    assert judged(folder) == before

    pq.write_table(table.drop_columns(["trace", "end"]), folder / PARQUET)
    with pytest.raises(UnreadableRun, match="it lacks end, trace"):
        judged(folder)


def test_what_the_journal_of_a_run_still_has_to_undo_is_left_behind_once_nobody_is_there_who_would(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "20260101-000000-abcdef")
    register(folder)
    undo = RemoveFolder("/tmp/chaos-0123")
    journal = UndoJournal(folder / "undo.jsonl")
    name = journal.before(undo)

    under_way = judge_folder(folder).verdict
    unlock(folder.name)
    gone = judge_folder(folder).verdict
    told = [(folder / name).read_text(encoding="utf-8") for name in ("report.html", "summary.md")]
    journal.done(name)
    journal.close()
    undone = judge_folder(folder).verdict

    assert under_way.left_behind == ()
    assert (gone.left_behind, gone.exit_code) == ((describe(undo),), 6)
    assert all("/tmp/chaos-0123" in text and "chaos gc" in text for text in told)
    assert (undone.left_behind, undone.exit_code) == ((), under_way.exit_code)
    assert under_way.exit_code != 6
    assert leave(folder)


def test_of_a_run_that_is_not_noted_on_this_machine_nothing_is_claimed_to_be_left(tmp_path: Path) -> None:
    folder = write_run(STORY, tmp_path / "20260101-000000-abcdef")
    journal = UndoJournal(folder / "undo.jsonl")
    journal.before(RemoveFolder("/tmp/chaos-0123"))
    journal.close()

    assert judge_folder(folder).verdict.left_behind == ()
