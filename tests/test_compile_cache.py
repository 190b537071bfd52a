"""Kernels are compiled once a machine, also when several processes are first at the same time."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core import caching

from holobeam.kernels import compiling, options

# Two shapes of the specialised sweep and the generic one: versions of one function.
_SOLVE = """
import sys, torch
import holobeam as hb
users = int(sys.argv[1])
h = torch.randn(2, users, 64, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
frontend = hb.frontends.build("rhs", hb.arrays.upa((8, 8)), users)
problem = hb.Downlink(h, frontend, noise_power=0.1, power_at="per_rf_chain")
rates = hb.solve(problem, "wmmse-cd", max_iterations=5).sum_rate
print(*(float(r).hex() for r in rates))
"""

_SETTLE = """
import sys
import numpy as np
from holobeam.kernels import budget
rng = np.random.default_rng(0)
feed, q = np.exp(1j * rng.random((9, 2))), rng.random((32, 9, 1)) + 0j
v = rng.normal(size=(32, int(sys.argv[1]), 2)) + 1j * rng.normal(size=(32, 2, 2))
budget.settle(feed, q, v, np.ones(32), 0, np.array([0, 1], complex), False, 1)
print(*(number.hex() for number in v.real.ravel()))
"""


def _start(users, cache=None, script=_SOLVE):
    root = Path(__file__).parents[1]
    environment = {
        **os.environ,
        **({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}),
        "PYTHONPATH": os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", script, str(users)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def _finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_what_a_process_compiled_itself_gives_the_bits_of_what_it_finds(tmp_path):
    # The settling of powers alone: in it the copies of one function once differed.
    fresh = _finish(_start(2, tmp_path, _SETTLE))
    assert len(fresh.split()) > 10
    assert _finish(_start(2, tmp_path, _SETTLE)) == fresh


def test_every_kernel_says_how_it_is_compiled():
    # What is left open is taken over from whichever caller compiles first.
    said = {"nogil", "error_model", "fastmath", "forceinline"}
    names = {name for name, value in vars(options).items() if name.isupper() and name[0] != "_"}
    names -= {"KEPT"}
    for name in names:
        choice = vars(options)[name]
        assert set(choice) - {"inline"} == said, name
        wanted = bool(choice["fastmath"]) or name == "INLINED"
        assert choice["forceinline"] == wanted, name
    found = 0
    for path in sorted(Path(compiling.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for call in node.decorator_list:
                if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "njit"):
                    assert "njit" not in ast.unparse(call), f"{path.name}: {node.name}"
                    continue
                unpacked = {ast.unparse(k.value) for k in call.keywords if k.arg is None}
                unpacked -= {"KEPT"}
                others = {k.arg for k in call.keywords if k.arg is not None}
                assert len(unpacked) == 1, f"{path.name}: {node.name}"
                assert unpacked <= names, f"{path.name}: {node.name}"
                assert others <= {"inline"}, f"{path.name}: {node.name}"
                found += 1
    assert found > 150


def test_fast_math_lives_in_no_function_that_stays_a_symbol():
    kernels = _kernels()
    called = set().union(*(calls for *_, calls in kernels.values()))
    assert ("blocks", "solve") in called
    for name, (choice, inline, _, calls) in kernels.items():
        if name not in called or inline or vars(options)[choice]["forceinline"]:
            continue
        fast = {
            callee
            for callee in calls & kernels.keys()
            if vars(options)[kernels[callee][0]]["fastmath"] and not kernels[callee][1]
        }
        assert not fast, f"{name} has the fast math of {fast} and is not inlined itself"


def test_only_what_python_calls_is_kept_on_disk():
    kernels = _kernels()
    called = set().union(*(calls for *_, calls in kernels.values()))
    kept = {name for name, (_, _, cache, _) in kernels.items() if cache}
    assert kept == kernels.keys() - called
    assert len(kept) > 20


def _name(node):
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def _kernels():
    """Options, if inlined by name, if kept on disk, and callees of every kernel."""
    found = {}
    for path in Path(compiling.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            alias.asname or alias.name: (node.module.rsplit(".", 1)[1], alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module.startswith("holobeam.kernels.")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.FunctionDef) and "njit" in map(_name, node.decorator_list)
            ):
                continue
            (jit,) = (one for one in node.decorator_list if _name(one) == "njit")
            choice, *kept = [ast.unparse(k.value) for k in jit.keywords if k.arg is None]
            inline = any(k.arg == "inline" for k in jit.keywords) or choice == "WITHIN"
            names = [_name(n) for n in ast.walk(node) if isinstance(n, ast.Call)]
            calls = {
                tuple(name.split(".", 1)) if "." in name else imported.get(name, (path.stem, name))
                for name in names
            }
            found[path.stem, node.name] = (choice, inline, kept == ["KEPT"], calls)
    return found


@pytest.mark.slow
def test_processes_may_compile_at_once(tmp_path):
    wanted = {users: _finish(_start(users)) for users in (2, 3)}
    racing = {users: _start(users, tmp_path / "together") for users in (2, 3)}
    assert {users: _finish(process) for users, process in racing.items()} == wanted
    stored = sorted(path.name for path in (tmp_path / "together").rglob("*.nbc"))
    again = {users: _finish(_start(users, tmp_path / "together")) for users in (2, 3)}
    assert again == wanted
    assert sorted(path.name for path in (tmp_path / "together").rglob("*.nbc")) == stored, (
        "something was compiled twice: its entry had been lost"
    )


_KERNEL = """
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x
"""


def test_an_update_of_any_source_compiles_anew(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(_KERNEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    found = []
    for sources in "aabbaa":
        monkeypatch.setattr(compiling, "fingerprint", lambda sources=sources: sources)
        found.append(_found_on_disk())
    assert found == [False, True] * 3


def _found_on_disk():
    """Whether a fresh process would find the kernel of `twice.py` compiled."""
    sys.modules.pop("twice", None)
    compiling.forget_other_sources.cache_clear()
    kernel = importlib.import_module("twice").twice
    assert compiling.compiled(kernel, (3,))(3) == 6
    return sum(kernel.stats.cache_hits.values()) > 0


def test_a_full_disk_keeps_nothing_and_nothing_fails(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(_KERNEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    with monkeypatch.context() as full:

        def save(*_):
            raise OSError(28, "No space left on device")

        full.setattr(caching.IndexDataCacheFile, "save", save)
        assert not _found_on_disk()
    assert [_found_on_disk(), _found_on_disk()] == [False, True]


@pytest.mark.slow
def test_where_nothing_can_be_written_kernels_work_and_it_is_said():
    script = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n" + _SETTLE
    process = _start(2, script=script)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert err.count("set NUMBA_CACHE_DIR to a folder that is writable") == 1
    assert out == _finish(_start(2, script=_SETTLE))


def test_every_kernel_that_python_calls_is_compiled_under_the_lock():
    # The two called `sweep` are made by functions, for a shape.
    kept = {key for key, (_, _, cache, _) in _kernels().items() if cache and key[1] != "sweep"}
    used = set()
    for path in Path(compiling.__file__).parents[1].rglob("*.py"):
        tree = ast.parse(path.read_text())
        imports = (n.names for n in ast.walk(tree) if isinstance(n, ast.ImportFrom))
        module = {one.asname or one.name: one.name for names in imports for one in names}
        here = path.stem if path.parent.name == "kernels" else ""
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called, *given = (
                    _of_module(part, module, here) for part in (node.func, *node.args)
                )
                assert called not in kept, f"{path.name} calls {called} itself"
                used |= set(given) & kept
    assert used == kept


def _of_module(node, module, here):
    """Module and name that an expression stands for."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return module.get(node.value.id, node.value.id), node.attr
    return here, node.id if isinstance(node, ast.Name) else ""


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path):
    script = (
        "import sys\nfrom holobeam.kernels import compiling\n"
        "print('ready', flush=True)\n"
        "with compiling.locked(sys.argv[1], 'one'):\n    print('inside', flush=True)\n"
    )
    with compiling.locked(str(tmp_path), "other"), compiling.locked(str(tmp_path), "one"):
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.5)
    assert other.communicate(timeout=60)[0] == "inside\n"


def test_a_folder_that_can_not_be_written_is_no_obstacle(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with compiling.locked(str(blocked / "cache"), "one"):
        pass
    with compiling.locked(None, "one"):
        pass
