"""Runs on Ray: the same bytes, also when a machine is lost, and errors that say what is missing."""

import errno
import os
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import replace

import pytest

from holobeam.errors import InputError, MissingDependencyError
from holobeam.studies import cluster
from holobeam.studies.claims import Claims
from holobeam.studies.cluster import ray_runner
from holobeam.studies.engine import local_runner, run_studies
from holobeam.studies.files import FullDiskError
from holobeam.studies.local import Job
from holobeam.studies.store import Store
from holobeam.studies.work import run_unit

from .trained_study import files


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"holobeam\[ray\]"):
        ray_runner()


class FakeRay:
    """A cluster in this process: tasks end in any order, and as the test says."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

        class WorkerCrashedError(RayError):
            pass

        class OutOfMemoryError(RayError):
            pass

        class NodeDiedError(RayError):
            pass

    def __init__(self, answer):
        self.answer, self.out, self.sent, self.most = answer, {}, Counter(), 0

    def send(self, job):
        unit = job.unit
        self.sent[unit.key] += 1
        ref = (unit.key, self.sent[unit.key])
        self.out[ref] = unit
        self.most = max(self.most, len(self.out))
        return ref

    def wait(self, refs, num_returns, timeout):
        assert set(refs) <= self.out.keys()
        return refs[-1:], refs[:-1]

    def get(self, ref):
        return self.answer(self.out.pop(ref), ref[1])

    def cancel(self, ref, force):
        del self.out[ref]


def _fly(errand, answer, in_flight=5):
    ray, outcomes = FakeRay(answer), []
    jobs = [Job(unit, str(errand.folder)) for unit in errand.plan.units]
    flight = cluster._Flight(ray, ray.send, cluster._Slots(ray, 1, 0, in_flight), outcomes.append)
    try:
        flight.run(deque(jobs))
    finally:
        flight.close()
    return ray, outcomes


def _done(unit, _):
    return "done", run_unit(unit).content, 4, 0.0, "", {}


def test_no_more_is_sent_out_than_there_is_room_for(errand, content):
    one, other = errand("there"), errand("here")
    ray, outcomes = _fly(one, _done)
    assert ray.most == 5
    assert Counter(outcome.kind for outcome in outcomes) == {"done": 12}
    run_studies([other], local_runner(0))
    assert content(one.folder) == content(other.folder)
    again, found = _fly(one, _done)
    assert not again.sent
    assert {outcome.kind for outcome in found} == {"found"}


@pytest.mark.parametrize(
    ("name", "lives"),
    [
        ("WorkerCrashedError", cluster.LIVES),
        ("OutOfMemoryError", cluster.LIVES),
        ("NodeDiedError", cluster.NODE_LIVES),
    ],
)
def test_what_is_lost_is_sent_again_but_not_for_ever(errand, name, lives):
    def lose(unit, number):
        if unit.stop == 4 or (unit.stop == 8 and number < lives):
            raise getattr(FakeRay.exceptions, name)("gone")
        return _done(unit, number)

    ray, outcomes = _fly(errand(snr=(0,), solvers=("mrt",)), lose)
    assert sorted(ray.sent.values()) == [1, lives, lives]
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    assert len(failed) == 1
    assert f"died {lives} times" in failed[0].message
    assert "gone" in failed[0].message


def test_what_a_node_can_not_load_is_not_sent_again(errand):
    def missing(*_):
        raise FakeRay.exceptions.RayTaskError("No module named 'holobeam'")

    ray, outcomes = _fly(errand(snr=(0,), solvers=("mrt",)), missing)
    assert set(ray.sent.values()) == {1}
    assert all("is holobeam" in outcome.message for outcome in outcomes)


def test_a_claimed_unit_is_not_sent(errand):
    one = errand()
    other = Claims(one.folder)
    other.take(one.plan.units[3].key)
    ray, outcomes = _fly(one, _done)
    other.close()
    assert len(ray.sent) == 11
    assert Counter(outcome.kind for outcome in outcomes) == {"done": 11, "busy": 1}


@pytest.fixture(scope="module")
def nodes():
    """Two machines in one: a head without cores, and two raylets of one core each."""
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def two_nodes(nodes, plugin, monkeypatch):
    """Cluster whose workers find the solvers that make trouble."""
    paths = [str(plugin), *(part for part in sys.path if part)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    added = [nodes.add_node(num_cpus=1) for _ in range(2)]
    nodes.wait_for_nodes()
    yield nodes, added
    for node in added:
        if node in nodes.list_all_nodes():
            nodes.remove_node(node, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.usefixtures("trouble")
def test_two_nodes_give_the_same_bytes(errand, content, two_nodes):
    """Also of units that fail, that kill their workers, or that no solver can serve."""
    made, _ = two_nodes
    solvers = ("mrt", "random", "raising", "deadly")
    one = errand("here", solvers=solvers[:2])
    run_studies([one], local_runner(0))
    other = errand("there", solvers=solvers)
    seen = []
    summary = run_studies([other], ray_runner(made.address), progress=seen.append)
    assert content(other.folder) == content(one.folder)
    assert summary.done == 12
    assert len(summary.failed) == 12
    assert sum("RuntimeError: boom" in line for line in summary.failed) == 6
    assert sum("died 3 times" in line for line in summary.failed) == 6
    assert seen[-1].units == 24


@pytest.mark.slow
@pytest.mark.usefixtures("trouble")
def test_a_lost_machine_changes_nothing(errand, content, two_nodes):
    made, added = two_nodes
    here = errand("here", solvers=({"name": "slow", "options": {"seconds": 0.4}}, "random"))
    run_studies([here], local_runner(2))
    there = replace(here, folder=here.folder.with_name("there"))
    killed = []

    def lose(progress):
        if progress.units == 2 and not killed:
            killed.append(added[0])
            made.remove_node(added[0], allow_graceful=False)

    summary = run_studies([there], ray_runner(made.address, in_flight=6), progress=lose)
    assert killed
    assert summary.failed == []
    assert summary.done == 12
    assert content(there.folder) == content(here.folder)


@pytest.mark.slow
def test_weights_that_nodes_train_come_to_those_that_need_them(trained, two_nodes, tmp_path):
    """Also where nodes don't see the driver's files."""
    made, _ = two_nodes
    here, there = trained("here"), trained("there")
    run_studies([here], local_runner(0))
    assert run_studies([there], ray_runner(made.address)).failed == []
    assert files(there) == files(here)
    (training,) = here.plan.trainings
    unseen = str(tmp_path / "elsewhere")
    kind, content, *_, beside = cluster._make(training, "cpu", 1, unseen)
    assert kind == "done"
    assert content in files(here).values()
    weights = beside[f"weights/{training.key}.safetensors"]
    unit = next(u for u in here.plan.units if u.case.solver == "mb-dnn")
    _, content, *_ = cluster._make(unit, "cpu", 1, unseen, (training.key, weights))
    assert content in files(here).values()


@pytest.mark.slow
def test_units_that_others_are_at_are_left_alone_and_a_full_disk_stops(
    errand, two_nodes, monkeypatch, content
):
    made, _ = two_nodes
    one = errand()
    flush, calls, guard = os.fsync, [], threading.Lock()

    def fail(descriptor):
        with guard:
            calls.append(1)
            full = len(calls) > 8
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FullDiskError, match="full"):
        run_studies([one], ray_runner(made.address))
    monkeypatch.undo()
    before = content(one.folder)
    assert 0 < len(before) < 12
    other = Claims(one.folder)
    held = next(u.key for u in one.plan.units if f"{u.key}.parquet" not in before)
    assert other.take(held)
    freed = threading.Timer(6.0, other.close)
    begin = time.monotonic()
    freed.start()
    summary = run_studies([one], ray_runner(made.address))
    assert time.monotonic() - begin >= 6.0
    assert (summary.done, summary.reused) == (12 - len(before), len(before))
    assert len(Store(one.folder).finished()) == 12


@pytest.mark.slow
def test_a_cluster_that_is_not_there(errand):
    pytest.importorskip("ray", reason="the ray extra is not installed")
    with pytest.raises(InputError, match="no Ray cluster answers"):
        run_studies([errand()], ray_runner("127.0.0.1:1"))
