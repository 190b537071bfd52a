"""What the study engine costs: a unit, a million results, a second worker."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.table import Table
from holobeam.studies.cases import Unit
from holobeam.studies.claims import Claims
from holobeam.studies.engine import Errand, local_runner, run_studies
from holobeam.studies.files import decode_table, encode_table, read_bytes, write_atomically
from holobeam.studies.local import Job, Outcome, run_local
from holobeam.studies.packs import read_packs
from holobeam.studies.plan import make_plan
from holobeam.studies.spec import Study
from holobeam.studies.store import Store, compact, read_table, table_meta
from holobeam.studies.work import pinned, run_unit

RESULTS = 1_000_000
FEW_RESULTS = 100_000
SHARD = 64
SNR = list(range(-20, 30, 5))
SOLVERS = ("mrt", "rzf", "zf", "zf-water-filling")


def tables(full: bool) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as folder:
        yield _unit_costs(Path(folder) / "units")
        yield _workers(Path(folder) / "workers")
        yield _million(Path(folder) / "million", RESULTS if full else FEW_RESULTS)


def _study(count: int, solvers: tuple[str, ...], **more: Any) -> Study:
    described: dict[str, Any] = {
        "title": "Engine",
        "paper": "engine",
        "figure": "cost",
        "count": count,
        "shard": SHARD,
        "channels": {"model": "rayleigh", "users": 2, "shape": [2, 2]},
        "frontends": {"full": {"kind": "digital"}},
        "sweep": {"problem.snr_db": SNR},
        "solvers": [{"name": name} for name in solvers],
    }
    return Study.model_validate({**described, **more})


def _unit_costs(folder: Path) -> Table:
    """Cost of each stage that a unit goes through, one at a time."""
    table = Table(
        "What a unit costs the engine",
        ("stage", "ms/unit, median", "ms/unit, 90th percentile"),
        f"Units of {SHARD} channels of the smallest problem, one process; ten rounds, interleaved.",
    )
    plan = make_plan(_study(20 * SHARD, SOLVERS[:1], sweep={"problem.snr_db": SNR[:5]}))
    errand = Errand(plan, folder)
    run_studies([errand], local_runner(1))
    store, units = Store(folder), plan.units
    paths = [store.unit_path(unit.key) for unit in units]
    contents = [read_bytes(path) for path in paths]
    decoded = [(decode_table(content)) for content in contents]
    metas = [table_meta(made) for made in decoded]
    packed = Store(folder.with_name("packed"))
    for path, content in zip(paths, contents, strict=True):
        write_atomically(packed.units / path.name, content)
    compact(packed)
    jobs = [Job(unit, str(folder)) for unit in units]
    claims = Claims(folder)

    def claim() -> None:
        for unit in units:
            claims.take(unit.key)
            claims.release(unit.key)

    def dispatch() -> float:
        """Round trips to a worker that finds everything done, but for its start."""
        stamps: list[float] = []
        run_local(jobs, lambda _: stamps.append(time.perf_counter()), 1)
        return (stamps[-1] - stamps[0]) * len(jobs) / (len(jobs) - 1)

    stages: dict[str, Callable[[], Any]] = {
        "plan": lambda: [unit.key for unit in make_plan(plan.study).units],
        "claim and release": claim,
        "send, look, answer": dispatch,
        "encode": lambda: [encode_table(*pair) for pair in zip(decoded, metas, strict=True)],
        "write, flush, rename": lambda: [
            write_atomically(folder / "copies" / path.name, content)
            for path, content in zip(paths, contents, strict=True)
        ],
        "check at resume": lambda: [read_bytes(path) for path in paths],
        "read": lambda: [read_table(path) for path in paths],
        "read from a pack": lambda: list(
            read_packs(packed.packs.glob("*.parquet"), {unit.key for unit in units})
        ),
    }
    spent: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(10):
        for name, stage in stages.items():
            begin = time.perf_counter()
            told = stage()
            wall = told if isinstance(told, float) else time.perf_counter() - begin
            spent[name].append(1e3 * wall / len(units))
    claims.close()
    for name, values in spent.items():
        table.add(name, f"{median(values):.3f}", f"{sorted(values)[-2]:.3f}")
    return table


def _workers(folder: Path) -> Table:
    """Overhead at units of a second, and what a second worker is worth."""
    table = Table(
        "Units of a second on one worker and on two",
        ("measure", "value", "asked", "verdict"),
        "Real solves (`vp` on an 8 x 8 surface) in shards sized to take a second, while all "
        "workers are at work (starting them takes some seconds, once). Three rounds, interleaved: "
        "the best speed of each, for the machine is shared, and the median share of waiting.",
    )
    shard = _shard_of_a_second()
    speeds: dict[int, list[float]] = {1: [], 2: []}
    overheads: dict[int, list[float]] = {1: [], 2: []}
    for number in range(3):
        for workers in (1, 2):
            errand = Errand(make_plan(_heavy(8 * workers, shard)), folder / f"{number}-{workers}")
            speed, idle = _steady(_spans(errand, workers), workers)
            speeds[workers].append(speed)
            overheads[workers].append(idle)
    for workers, idle in overheads.items():
        share = median(idle)
        name = f"time that {workers} worker(s) did not compute"
        table.check(share <= 0.05, name, f"{100 * share:.1f} %", "<= 5 %")
    gain = max(speeds[2]) / max(speeds[1])
    table.check(gain >= 1.8, "two workers over one", f"{gain:.2f}", ">= 1.8 on idle cores")
    table.add("channels in a unit of a second", shard, "", "")
    return table


def _spans(errand: Errand, workers: int) -> list[tuple[float, float]]:
    """When each unit was computed."""
    jobs = [Job(unit, str(errand.folder)) for unit in errand.plan.units]
    spans: list[tuple[float, float]] = []

    def report(outcome: Outcome) -> None:
        now = time.perf_counter()
        spans.append((now - outcome.seconds, now))

    run_local(jobs, report, workers)
    return spans


def _steady(spans: list[tuple[float, float]], workers: int) -> tuple[float, float]:
    """Units a second while all workers are at work, and the share of their time they wait."""
    at_once = [t for t, _ in spans if sum(a <= t < b for a, b in spans) == workers]
    first = min(at_once)
    # Until the first of them finds nothing left to do.
    last = sorted(end for _, end in spans)[-workers]
    inside = [(max(a, first), min(b, last), b - a) for a, b in spans if b > first and a < last]
    worked = sum(b - a for a, b, _ in inside)
    units = sum((b - a) / whole for a, b, whole in inside)
    return units / (last - first), 1.0 - worked / (workers * (last - first))


def _heavy(units: int, shard: int) -> Study:
    return _study(
        units * shard,
        ("vp",),
        shard=shard,
        channels={"model": "path-wise", "users": 4, "shape": [8, 8]},
        frontends={"surface": {"kind": "rhs", "rf_chains": 4}},
        sweep={"problem.snr_db": [10]},
    )


def _shard_of_a_second() -> int:
    case = make_plan(_heavy(1, 64)).entries[0].case
    with pinned():
        run_unit(Unit(case, 0, 64))
        size = 64
        for _ in range(3):
            seconds = run_unit(Unit(case, 0, size)).seconds
            size = max(8, min(4096, round(size / seconds)))
    return size


_CHILD = """
import json, resource, sys, time
from pathlib import Path
from benchmarks import engine
begin = time.perf_counter()
found = getattr(engine, sys.argv[1])(Path(sys.argv[2]), int(sys.argv[3]))
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak": peak, **found}))
"""


def _alone(stage: str, folder: Path, count: int) -> dict[str, Any]:
    """Run a stage in a process of its own; its seconds and its peak memory in MB."""
    said = subprocess.run(
        [sys.executable, "-c", _CHILD, stage, str(folder), str(count)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def _big_errand(folder: Path, count: int) -> Errand:
    channels = count // (len(SNR) * len(SOLVERS))
    return Errand(make_plan(_study(channels, SOLVERS)), folder)


def do_plan(folder: Path, count: int) -> dict[str, Any]:
    """Lay the results out."""
    plan = _big_errand(folder, count).plan
    keys = {unit.key for unit in plan.units}
    return {"units": len(keys), "results": plan.channels}


def do_run(folder: Path, count: int) -> dict[str, Any]:
    """Finish what is missing of them."""
    summary = run_studies([_big_errand(folder, count)], local_runner(2), timings=False)
    return {"done": summary.done, "reused": summary.reused}


def do_aggregate(folder: Path, count: int) -> dict[str, Any]:
    """Put them together."""
    from holobeam.studies.results import load_results

    results = load_results(folder)
    total = sum(len(series.sum_rate) for series in results.series.values())
    return {"results": total, "missing": results.missing}


def do_compact(folder: Path, count: int) -> dict[str, Any]:
    """Pack them."""
    return {"packed": compact(Store(folder))}


def _million(folder: Path, count: int) -> Table:
    from holobeam.studies import engine

    table = Table(
        f"{count:,} channel-solver results of tiny problems",
        ("stage", "seconds", "peak memory, MB", "files", "MB on disk", "asked", "verdict"),
        f"{len(SNR)} points x {len(SOLVERS)} solvers x {count // (len(SNR) * len(SOLVERS))} "
        f"channels in shards of {SHARD}, two workers; each stage in a process of its own, whose "
        "peak memory is given (some 300 MB of it are libraries). A run packs what it leaves when "
        f"there are more than {engine.COMPACT_ABOVE} single files: the last three rows undo that.",
    )
    stages = (
        ("plan", "do_plan", None),
        ("run, and pack at its end", "do_run", None),
        ("aggregate from packs", "do_aggregate", 10.0),
        ("resume: nothing to do", "do_run", None),
        ("unpacked: check at resume", "do_resume_loose", None),
        ("unpacked: aggregate", "do_aggregate", None),
        ("pack", "do_compact", None),
    )
    for name, stage, most in stages:
        if stage == "do_resume_loose":
            _unpack(folder)
        found = _alone(stage, folder, count)
        files = [path.stat().st_size for path in folder.rglob("*.parquet")]
        cells = (name, f"{found['seconds']:.1f}", f"{found['peak']:.0f}", len(files))
        size = f"{sum(files) / 1e6:.0f}"
        if most is None:
            table.check(found["peak"] <= 1000, *cells, size, "<= 1000 MB")
        else:
            whole = found["results"] == count and found["missing"] == 0
            met = found["peak"] <= 1000 and found["seconds"] <= most and whole
            table.check(met, *cells, size, f"<= 1000 MB, <= {most:g} s, all there")
    return table


def do_resume_loose(folder: Path, count: int) -> dict[str, Any]:
    """Look through single files, as a run does before it starts."""
    plan = _big_errand(folder, count).plan
    return {"finished": len(Store(folder).finished({unit.key for unit in plan.units}))}


def _unpack(folder: Path) -> None:
    """Put every unit into a file of its own again."""
    store = Store(folder)
    packs = sorted(store.packs.glob("*.parquet"))
    for key, rows, meta in read_packs(packs, set(store.packed())):
        # Not flushed one by one: that is measured elsewhere.
        store.unit_path(key).write_bytes(encode_table(rows, meta))
    for pack in packs:
        pack.unlink()
