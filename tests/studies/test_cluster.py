"""Runs on Ray: the same bytes, also when a machine is lost, and errors that say what is missing."""

import errno
import os
import sys
import threading
import time
from dataclasses import replace

import pytest

from holobeam.errors import InputError, MissingDependencyError
from holobeam.studies.claims import Claims
from holobeam.studies.cluster import ray_runner
from holobeam.studies.engine import local_runner, run_studies
from holobeam.studies.files import FullDiskError
from holobeam.studies.store import Store


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"holobeam\[ray\]"):
        ray_runner()


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
