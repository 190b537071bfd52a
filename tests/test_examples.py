"""The examples run; packages outside this one are found by name and pass the kit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import holobeam

EXAMPLES = Path(__file__).parents[1] / "examples"
SOURCE = Path(holobeam.__file__).parents[1]

CHECK = """
import json
import holobeam as hb
from holobeam import testing
from holobeam.arrays import upa

solver = hb.solver("my-solver", max_iterations=4)
frontend = hb.frontends.build("my-frontend", upa((4, 3)), 2)
testing.check_frontend(frontend)
ours = [hb.frontends.build(name, upa((4, 3)), 2) for name in ("phase-shifters", "digital")]
testing.check_solver(solver, testing.example_problems([frontend, *ours]))
entry = next(e for e in hb.solvers.available() if e.name == "my-solver")
print(json.dumps([entry.summary, hb.frontends.available()["my-frontend"]]))
"""


def _environment(*folders):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Both example packages, installed beside this interpreter's own packages."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools >= 77")
    target, build = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("build")
    for name in ("my_solver", "my_frontend"):
        source = build / name
        source.mkdir()
        for file in (EXAMPLES / name).glob("*.*"):
            (source / file.name).write_bytes(file.read_bytes())
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        command += ["--no-build-isolation", "--target", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return target


def test_third_party_packages_are_found_and_conform(installed):
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        env=_environment(installed, SOURCE),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    solver_line, frontend_line = json.loads(done.stdout)
    assert solver_line.startswith("Gradient step on the controls")
    assert frontend_line == "Surface of three-state elements (-1, 0, 1), feeds along the middle."


def test_they_are_gone_without_the_package():
    names = {entry.name for entry in holobeam.solvers.available()}
    assert "my-solver" not in names
    assert "my-frontend" not in holobeam.frontends.available()


@pytest.mark.parametrize(
    ("script", "expected"),
    [("quickstart.py", "wmmse-digital"), ("own_channels.py", "mean sum rate")],
)
def test_scripts_run(script, expected, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)],
        env={**_environment(SOURCE), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert not list(EXAMPLES.glob("*.npz")), "examples must not write beside themselves"
