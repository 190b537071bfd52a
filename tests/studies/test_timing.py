"""Times: measured apart, on an idle machine, and again where it was not idle."""

import subprocess
import sys
import time

from holobeam.studies import engine, idle
from holobeam.studies.engine import local_runner, run_studies
from holobeam.studies.local import run_here
from holobeam.studies.store import Store


def here(errands, **how):
    return run_studies(errands, local_runner(0), **how)


TIMED = {"batches": [1], "repeats": 2, "quick_repeats": 1}


def test_times_are_measured_apart_and_only_once(errand, content):
    one = errand(timing=TIMED, quick=True)
    assert here([one], timings=False).done == 12
    assert content(one.folder, "timings") == {}
    summary = here([one])
    assert summary.done == len(one.plan.timings) == 4
    before = content(one.folder, "timings")
    contended = {key for key, bad in Store(one.folder).finished_timings().items() if bad}
    again = here([one])
    after = content(one.folder, "timings")
    assert again.done <= len(contended)
    kept = before.keys() - {f"{key}.parquet" for key in contended}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_contended_times_are_measured_again_on_an_idle_machine(errand, monkeypatch):
    one = errand(timing=TIMED, quick=True, snr=(0,), solvers=("mrt",))
    here([one], timings=False)
    busy = iter([5.0])
    store = Store(one.folder)

    def run(jobs, report, *_, **__):
        run_here(jobs, report)

    # Measured in this process, where the machine can be made busy.
    monkeypatch.setattr(engine, "run_local", run)
    monkeypatch.setattr(idle.Watch, "others", lambda self: next(busy, 5.0))
    assert here([one]).contended == 1
    assert list(store.finished_timings().values()) == [True]
    assert here([one]).done == 0
    assert here([one]).contended == 1
    monkeypatch.setattr(idle.Watch, "others", lambda self: 0.0)
    summary = here([one])
    assert (summary.done, summary.contended) == (1, 0)
    assert list(store.finished_timings().values()) == [False]
    assert here([one]).done == 0


def test_a_damaged_time_is_measured_again(errand, monkeypatch):
    monkeypatch.setattr(engine, "run_local", lambda jobs, report, *_, **__: run_here(jobs, report))
    one = errand(timing=TIMED, quick=True, snr=(0,), solvers=("mrt",))
    here([one])
    path = next(Store(one.folder).timings.glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    assert here([one]).done == 1


def test_patience_is_bounded_and_shared(monkeypatch):
    naps = []
    monkeypatch.setattr(idle.time, "sleep", naps.append)
    monkeypatch.setattr(idle, "others_busy", lambda: 2.0)
    patience = idle.Patience(3.0)
    assert not patience.wait_until_idle()
    assert patience.left == 0
    spent = len(naps)
    assert 0 < sum(naps) <= 3.0
    assert not patience.wait_until_idle()
    assert len(naps) == spent


def test_others_are_noticed():
    """A neighbour that works is seen, ourselves are not counted."""
    loop = "while True: pass"
    watch = idle.Watch()
    neighbour = subprocess.Popen([sys.executable, "-c", loop])
    try:
        time.sleep(1.0)
        assert watch.others() > 0.3
    finally:
        neighbour.kill()
        neighbour.wait()
