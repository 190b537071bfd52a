"""Runs: the same numbers however they are made, nothing done twice, trouble contained."""

import errno
import itertools
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from holobeam.errors import FileError, InputError
from holobeam.studies import engine, local
from holobeam.studies.cases import Case
from holobeam.studies.claims import Claims
from holobeam.studies.engine import local_runner, run_studies
from holobeam.studies.files import FullDiskError
from holobeam.studies.local import Job, run_here, run_local
from holobeam.studies.store import Store, compact, read_units


def here(errands, **how):
    return run_studies(errands, local_runner(0), **how)


def test_the_same_bytes_whatever_the_workers_and_their_order(errand, content):
    """On two processes, on one, in this one, forwards and backwards."""
    one = errand("here", solvers=("mrt", "random"))
    summary = here([one])
    assert (summary.done, summary.reused, summary.failed) == (12, 0, [])
    expected = content(one.folder)
    assert len(expected) == 12
    for workers in (1, 2):
        other = replace(one, folder=one.folder.with_name(f"workers{workers}"))
        run_studies([other], local_runner(workers))
        assert content(other.folder) == expected
    # Nothing is at work, and no zombie is left, when a run has ended.
    assert not _children(os.getpid())
    backwards = replace(one, folder=one.folder.with_name("backwards"))
    run_studies([backwards], lambda jobs, report: run_here(jobs[::-1], report))
    assert content(backwards.folder) == expected


def test_numbers_do_not_depend_on_the_threads_of_the_caller(errand, content):
    import torch

    one, other = errand("one", solvers=("random",)), errand("other", solvers=("random",))
    here([one])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        here([other])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert content(one.folder) == content(other.folder)


def test_parts_make_up_the_whole(errand, content):
    whole, parts = errand("whole"), errand("parts")
    here([whole])
    done = [here([parts], part=(index, 5)).done for index in range(5)]
    assert sum(done) == 12
    assert content(parts.folder) == content(whole.folder)
    with pytest.raises(InputError, match="0 <= i < n"):
        here([parts], part=(5, 5))


def test_channels_do_not_depend_on_the_shard_they_are_in(errand):
    def rates(folder):
        tables = [t for _, t, _ in read_units(Store(folder), Store(folder).finished())]
        rows = [
            (meta["case"], channel, tuple(rate))
            for table, meta in zip(tables, _metas(folder), strict=True)
            for channel, rate in zip(
                table["channel"].to_pylist(), table["rates"].to_pylist(), strict=True
            )
        ]
        return {(case, channel): rate for case, channel, rate in rows}

    def _metas(folder):
        return [meta for _, _, meta in read_units(Store(folder), Store(folder).finished())]

    small, large = errand("small", shard=3), errand("large", shard=12)
    here([small])
    here([large])
    found, expected = rates(small.folder), rates(large.folder)
    assert found.keys() == expected.keys()
    for place, rate in found.items():
        assert rate == pytest.approx(expected[place], rel=1e-12)


@pytest.mark.usefixtures("trouble")
def test_running_again_does_nothing_twice(errand, content, tmp_path):
    log = tmp_path / "log"
    solver = {"name": "counted", "options": {"log": str(log)}}
    one = errand(solvers=(solver,))
    here([one], part=(0, 2))
    assert len(log.read_text().split()) == 3
    here([one])
    assert len(log.read_text().split()) == 6
    before = content(one.folder)
    again = here([one])
    assert (again.done, again.reused) == (0, 6)
    assert len(log.read_text().split()) == 6
    assert content(one.folder) == before
    compact(Store(one.folder))
    assert here([one]).reused == 6
    assert len(log.read_text().split()) == 6


@pytest.mark.usefixtures("trouble")
def test_two_runs_at_once_share_the_work(errand, tmp_path):
    """The units are slow enough to overlap; each is done once."""
    log = tmp_path / "log"
    options = {"log": str(log), "seconds": 0.1}
    one = errand(solvers=({"name": "counted", "options": options},), count=40)
    summaries = []
    runs = [
        threading.Thread(target=lambda: summaries.append(run_studies([one], local_runner(1))))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    writers = Counter(log.read_text().split())
    assert sum(writers.values()) == 20
    assert len(writers) == 2
    assert sum(s.done for s in summaries) == 20
    assert all(s.done + s.reused == 20 for s in summaries)


@pytest.mark.usefixtures("trouble")
def test_a_unit_that_another_process_leaves_undone_is_done(errand, monkeypatch):
    monkeypatch.setattr(engine, "BUSY_WAIT", 0.02)
    one = errand()
    key = one.plan.units[0].key
    other = Claims(one.folder)
    assert other.take(key)
    done = threading.Timer(0.3, other.close)
    done.start()
    summary = here([one])
    done.join()
    assert (summary.done, summary.reused) == (12, 0)


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_unit_does_not_stop_the_others(errand, workers, capfd):
    """And what solvers print in workers does not spoil our output."""
    one = errand(solvers=("raising", "leaving", "chatty", "mrt"), snr=(0,), count=4)
    summary = run_studies([one], local_runner(workers))
    assert summary.done == 2
    raising, leaving = summary.failed
    assert "RuntimeError: boom" in raising
    assert "leaving: SystemExit: 3" in leaving
    assert Store(one.folder).loose() == 2
    if workers:
        printed = capfd.readouterr()
        assert printed.out == ""
        assert "here I am" in printed.err


@pytest.mark.usefixtures("trouble")
def test_a_failed_unit_is_tried_again_by_the_next_run(errand, tmp_path):
    sign = tmp_path / "sign"
    one = errand(solvers=({"name": "moody", "options": {"sign": str(sign)}},), snr=(0,))
    assert len(here([one]).failed) == 3
    sign.touch()
    summary = here([one])
    assert (summary.done, summary.failed) == (3, [])


def test_what_a_solver_can_not_serve_is_recorded_once(errand):
    surface = {"full": {"kind": "rhs", "rf_chains": 1}}
    one = errand(solvers=("zf", "mrt"), frontends=surface, snr=(0,))
    summary = here([one])
    assert (summary.done, summary.failed) == (6, [])
    assert len(summary.unsupported) == 1
    assert "K <= R" in summary.unsupported[0]
    assert here([one]).reused == 6


@pytest.mark.usefixtures("trouble")
def test_a_worker_that_dies_is_replaced(errand, tmp_path, content):
    sign = tmp_path / "sign"
    one = errand(solvers=({"name": "mortal", "options": {"sign": str(sign)}},), snr=(0,))
    summary = run_studies([one], local_runner(1))
    assert (summary.done, summary.failed) == (3, [])
    assert len(content(one.folder)) == 3


@pytest.mark.usefixtures("trouble")
def test_a_unit_that_kills_its_workers_is_given_up(errand):
    one = errand(solvers=("mrt", "deadly"), snr=(0,), count=4)
    summary = run_studies([one], local_runner(1))
    assert summary.done == 1
    assert len(summary.failed) == 1
    assert f"died {local.LIVES} times" in summary.failed[0]


def test_a_unit_written_by_a_worker_that_died_before_it_said_so(errand):
    """The next one that gets it finds it there."""
    one = errand(snr=(0,), solvers=("mrt",), count=4)
    jobs = [Job(unit, str(one.folder)) for unit in one.plan.units]
    run_here(jobs, lambda _: None)
    outcomes = []
    run_here(jobs, outcomes.append)
    assert [outcome.kind for outcome in outcomes] == ["found"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_more_stops_the_run(errand, monkeypatch, content, number):
    one = errand()
    calls = []
    flush = os.fsync

    def fail(descriptor):
        calls.append(1)
        # Twice for each file and for the manifest: the file and its folder.
        if len(calls) > 8:
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    kind = FullDiskError if number == errno.ENOSPC else FileError
    with pytest.raises(kind):
        here([one])
    monkeypatch.undo()
    assert len(content(one.folder)) == 3
    assert not list(one.folder.rglob(".*.tmp"))
    summary = here([one])
    assert (summary.done, summary.reused) == (9, 3)


def test_progress_ends_at_all(errand):
    seen = []
    one = errand()
    here([one], progress=seen.append)
    assert [p.units for p in seen] == list(range(13))
    assert {p.all_units for p in seen} == {12}
    assert seen[-1].channels == seen[-1].all_channels == 48
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(seen))


def test_large_jobs_reach_a_worker_that_is_still_starting(errand):
    """More than a pipe holds."""
    one = errand(snr=(0,), solvers=("mrt",), count=4)
    unit = one.plan.units[0]
    assert isinstance(unit.case, Case)
    wide = replace(unit, case=replace(unit.case, options=(("rules", "x" * 500_000),)))
    outcomes = []
    run_local([Job(wide, str(one.folder))], outcomes.append, 1)
    assert [outcome.kind for outcome in outcomes] == ["failed"]
    assert "did you mean rule?" in outcomes[0].message


def test_folders_above_the_limit_are_packed(errand, monkeypatch):
    """While a run goes on, and when it ends."""
    monkeypatch.setattr(engine, "COMPACT_ABOVE", 4)
    one, loose = errand(), []
    store = Store(one.folder)
    summary = here([one], progress=lambda _: loose.append(store.loose()))
    assert (summary.done, summary.failed) == (12, [])
    assert max(loose) == 8
    assert len(store.packed()) == 8
    assert len(store.finished()) == 12
    assert here([one]).reused == 12


def test_packing_beside_a_run_repeats_no_work(errand, content):
    """What another run did and packed meanwhile is found in the pack."""
    one = errand()
    jobs = [Job(unit, str(one.folder)) for unit in one.plan.units]
    here([one])
    compact(Store(one.folder))
    outcomes = []
    run_here(jobs, outcomes.append)
    assert {outcome.kind for outcome in outcomes} == {"found"}
    assert content(one.folder) == {}


@pytest.mark.usefixtures("trouble")
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(study_file, command, tmp_path):
    slow = {"name": "slow", "options": {"seconds": 0.5}}
    study, out = study_file(solvers=(slow,), count=80), tmp_path / "results"
    arguments = ["run", study, "--out", out, "--workers", 1, "--set", "title=a b"]
    process = command(*arguments, start_new_session=True)
    units = out / "tiny" / "one" / "units"
    _wait_for(lambda: units.is_dir() and any(units.glob("*.parquet")))
    workers = _children(process.pid)
    assert workers
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in said
    assert "'title=a b'" in said
    assert "Traceback" not in said
    assert not list(out.rglob(".*.tmp"))
    assert not any(_alive(worker) for worker in workers)
    assert Store(units.parent).finished()


@pytest.mark.usefixtures("trouble")
def test_orphans_finish_what_they_are_at_and_end(study_file, command, tmp_path):
    log, out = tmp_path / "log", tmp_path / "results"
    solver = {"name": "counted", "options": {"log": str(log), "seconds": 1.0}}
    process = command("run", study_file(solvers=(solver,)), "--out", out, "--workers", 1)
    _wait_for(lambda: log.exists() and len(log.read_text().split()) == 2)
    worker = _children(process.pid)[0]
    process.kill()
    process.communicate()
    _wait_for(lambda: not _alive(worker))
    assert len(Store(out / "tiny" / "one").finished()) == 2


def _wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
