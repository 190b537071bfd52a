"""A study of tiny problems, solvers that make trouble, and runs of the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holobeam.solvers import registry
from holobeam.studies.engine import Errand
from holobeam.studies.plan import make_plan
from holobeam.studies.spec import Study

from .small_study import ran, small_file
from .trained_study import trained

__all__ = ["ran", "small_file", "trained"]

TROUBLE = '''
"""Solvers as another package might bring them."""

import os
import signal
import time
from pathlib import Path

from holobeam.solvers.closed_form import ClosedForm


def slow(name="slow", seconds=0.2):
    """Takes its time."""
    time.sleep(seconds)
    return ClosedForm(name=name, rule="mrt")


def raising(name="raising"):
    """Raises what nobody expects."""
    raise RuntimeError("boom")


def leaving(name="leaving"):
    """Ends the interpreter."""
    raise SystemExit(3)


def deadly(name="deadly"):
    """Is killed, as by the system when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(name="mortal", sign=""):
    """Is killed unless it was before."""
    if not Path(sign).exists():
        Path(sign).touch()
        deadly()
    return ClosedForm(name=name, rule="mrt")


def moody(name="moody", sign=""):
    """Fails until there is a sign."""
    if not Path(sign).exists():
        raise RuntimeError("not today")
    return ClosedForm(name=name, rule="mrt")


def counted(name="counted", log="", seconds=0.0):
    """Leaves a line in a log."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    return ClosedForm(name=name, rule="mrt")


def chatty(name="chatty"):
    """Prints."""
    print("here I am")
    return ClosedForm(name=name, rule="mrt")
'''
SOLVERS = ("slow", "raising", "leaving", "deadly", "mortal", "moody", "counted", "chatty")


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    """Folder of an installed package of solvers that make trouble."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "troublemakers.py").write_text(TROUBLE)
    about = folder / "troublemakers-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: troublemakers\nVersion: 1.0\n")
    points = "\n".join(f"{name} = troublemakers:{name}" for name in SOLVERS)
    (about / "entry_points.txt").write_text(f"[holobeam.solvers]\n{points}\n")
    return folder


@pytest.fixture
def trouble(plugin, monkeypatch):
    """Register the solvers that make trouble, here and in processes that are started."""
    monkeypatch.syspath_prepend(str(plugin))
    registry._entries.cache_clear()
    yield
    registry._entries.cache_clear()


def described(solvers=("mrt", "rzf"), count=12, shard=4, snr=(0, 10), **more):
    """Content of a study file of tiny problems."""
    tables = [s if isinstance(s, dict) else {"name": s} for s in solvers]
    return {
        "title": "Tiny",
        "paper": "tiny",
        "figure": "one",
        "count": count,
        "shard": shard,
        "seed": 3,
        "channels": {"model": "rayleigh", "users": 2, "shape": [2, 2]},
        "frontends": {"full": {"kind": "digital"}},
        "sweep": {"problem.snr_db": list(snr)},
        "solvers": tables,
        **more,
    }


@pytest.fixture
def errand(tmp_path):
    """Lay out a tiny study; returns what the engine runs."""

    def make(folder="out", quick=False, **how):
        plan = make_plan(Study.model_validate(described(**how)), quick)
        return Errand(plan, tmp_path / folder)

    return make


@pytest.fixture
def content():
    """Bytes of every result file below a folder, by name."""

    def read(folder: Path, below="units"):
        return {path.name: path.read_bytes() for path in sorted((folder / below).iterdir())}

    return read


@pytest.fixture
def study_file(tmp_path):
    """Write a tiny study as a file."""

    def toml(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f'"{k}" = {toml(v)}' for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(toml, value)) + "]"
        return f'"{value}"' if isinstance(value, str) else str(value).lower()

    def write(**how):
        path = tmp_path / "tiny.toml"
        lines = (f"{key} = {toml(value)}" for key, value in described(**how).items())
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def command(plugin):
    """Start the command line in a process of its own."""
    started = []

    def start(*arguments, **how):
        paths = [str(plugin), *(part for part in sys.path if part)]
        # A shell ignores SIGINT in what it runs in the background, and children inherit that.
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        code += "from holobeam.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
