"""``holobeam bench``: a stranger's way from an exported instance to a record."""

import json
from pathlib import Path

import numpy as np
import pytest

from holobeam import frozen


def test_list(holobeam):
    code, text, _ = holobeam("bench", "list", "--json")
    rows = json.loads(text)
    assert code == 0
    assert [row["name"] for row in rows] == [one.name for one in frozen.INSTANCES]
    for row in rows:
        values = frozen.best_known(row["name"]).values
        assert row["best_known_mean"] == pytest.approx(values.mean(axis=1).tolist(), abs=1e-4)
        assert sum(holder["channels"] for holder in row["holders"]) == values.size
    code, text, _ = holobeam("bench", "list")
    assert code == 0
    assert all(one.name in text for one in frozen.INSTANCES)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_a_stranger_with_numpy_alone(holobeam, tmp_path, suffix):
    """Zero forcing from the exported arrays; the score is what the stranger computes."""
    exported, mine = tmp_path / f"digital-32{suffix}", tmp_path / f"mine{suffix}"
    assert holobeam("bench", "export", "digital-32", "--out", exported)[0] == 0
    if suffix == ".npz":
        with np.load(exported) as file:
            data = dict(file)
    else:
        from scipy.io import loadmat

        data = loadmat(exported)
    h, power, noise = data["h"][:, 0], data["power"].item(), data["noise_power"].reshape(-1)
    precoder = np.linalg.pinv(h)
    precoder *= np.sqrt(power / (np.abs(precoder) ** 2).sum(axis=(1, 2), keepdims=True))
    received = np.abs(h @ precoder) ** 2
    own = received[:, range(4), range(4)]
    expected = np.log2(1 + own / (received.sum(axis=2) - own + noise)).sum(axis=1)
    if suffix == ".npz":
        np.savez(mine, instance="digital-32", precoder=precoder)
    else:
        from scipy.io import savemat

        savemat(mine, {"precoder": precoder, "sha256": data["sha256"]})
    code, text, _ = holobeam("bench", "score", mine, "--instance", "digital-32", "--json")
    assert code == 0
    (row,) = json.loads(text)["points"]
    best = frozen.best_known("digital-32").values[0]
    assert row["mean"] == pytest.approx(expected.mean(), rel=1e-4)
    assert row["ratio_of_means"] == pytest.approx(expected.mean() / best.mean(), rel=1e-4)
    assert row["mean_of_ratios"] == pytest.approx((expected / best).mean(), rel=1e-4)
    assert row["worst_channel"] == int((expected / best).argmin())
    assert row["wins"] == 0


def test_the_recipe_of_the_documentation_works(holobeam, tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs" / "frozen-benchmark.md"
    recipe = page.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    assert holobeam("bench", "export", "digital-32", "--out", "digital-32.npz")[0] == 0
    exec(compile(recipe, "recipe", "exec"), {})
    claimed = float(capsys.readouterr().out)
    code, text, _ = holobeam("bench", "score", "mine.npz", "--json")
    assert code == 0
    assert json.loads(text)["points"][0]["mean"] == pytest.approx(claimed, rel=1e-4)


def test_solve_score_update(holobeam, tmp_path):
    weak, strong, record = (tmp_path / name for name in ("weak.npz", "strong.mat", "r.json"))
    start = frozen.blank(frozen.instance("phase-shifters-32"))
    frozen.write_record(record, start)
    base = ("bench", "solve", "phase-shifters-32", "--record", record)
    code, text, _ = holobeam(*base, "-s", "rzf", "--save", weak, "--json")
    assert code == 0
    low = json.loads(text)["points"][0]["mean"]
    assert "wins" not in json.loads(text)["points"][0]  # nothing is known yet
    code, text, _ = holobeam(
        "bench", "update", weak, "--by", "A. Weak", "--record", record, "--json"
    )
    assert (code, json.loads(text)["raised"]) == (0, {"12.0": 64})
    code, text, err = holobeam(*base, "-s", "vp", "--iterations", 30, "--save", strong)
    assert code == 0
    assert "holobeam bench update" in err
    code, text, _ = holobeam("bench", "score", strong, "--record", record, "--json")
    row = json.loads(text)["points"][0]
    assert row["mean"] > low
    assert row["wins"] >= 60
    code, text, _ = holobeam("bench", "update", strong, "--by", "B. Strong", "--record", record)
    assert code == 0
    assert f"{row['wins']} of 64 channels raised" in text
    kept = record.read_bytes()
    holobeam("bench", "update", weak, "--by", "A. Weak", "--record", record)
    assert record.read_bytes() == kept
    after = frozen.read_record(record, start.instance)
    holder = next(one for one in after.holders if one.by == "B. Strong")
    assert holder.how.startswith(
        "holobeam bench solve phase-shifters-32 --solver vp --starts 1 --iterations 30 --seed 0"
    )
    assert len(holder.file_sha256) == 64


def test_points_can_be_chosen(holobeam, tmp_path):
    path = tmp_path / "a.npz"
    code, text, _ = holobeam(
        "bench", "solve", "rhs-8x8", "-s", "mmse", "--points", "20,0", "--save", path, "--json"
    )
    assert code == 0
    assert [row["point"] for row in json.loads(text)["points"]] == [20.0, 0.0]
    assert frozen.read_entry(path).points == (20.0, 0.0)


def test_an_infeasible_solution_is_wrong_input(holobeam, tmp_path):
    one = frozen.instance("digital-32")
    b, _, k, n, _ = one.sizes
    path = tmp_path / "loud.npz"
    np.savez(path, instance=one.name, precoder=np.ones((b, n, k)))
    for command in (
        ("score", path),
        ("update", path, "--by", "me", "--record", tmp_path / "r.json"),
    ):
        code, text, err = holobeam("bench", *command)
        assert code == 2
        assert "InfeasibleError" in err
        assert "power over the budget by up to 1.3e+02 of it in 64 of 64" in " ".join(err.split())
        assert text == ""
    assert not (tmp_path / "r.json").exists()


REFUSED = [
    (("solve", "rhs-8x9", "-s", "mmse", "--save", "a.npz"), "rhs-8x8"),
    (("solve", "rhs-8x8", "-s", "mmze", "--save", "a.npz"), "mmse"),
    (("solve", "rhs-8x8", "-s", "mmse", "--save", "a.csv"), ".npz or .mat"),
    (("solve", "rhs-8x8", "-s", "mmse", "--save", "/proc/nowhere/a.npz"), "writable"),
    (("solve", "rhs-8x8", "-s", "mmse", "--save", "a.npz", "--points", "5"), "0, 10, 20"),
    (("solve", "rhs-8x8", "-s", "wmmse-digital", "--save", "a.npz"), "fully digital"),
    (("export", "rhs-8x8", "--out", "a.txt"), ".npz or .mat"),
    (("score", "nothing-here.npz"), "no such file"),
    (("score", "nothing-here.pkl"), "unknown suffix"),
    (("update", "nothing-here.npz", "--by", "me"), "no such file"),
]


@pytest.mark.parametrize(("arguments", "hint"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_wrong_input_gets_one_line_and_exit_code_2(
    holobeam, arguments, hint, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    code, text, err = holobeam("bench", *arguments)
    assert code == 2
    assert hint in " ".join(err.split())
    assert "Traceback" not in err
    assert text == ""


def test_help_teaches(holobeam):
    for command in ((), ("list",), ("export",), ("solve",), ("score",), ("update",)):
        code, text, _ = holobeam("bench", *command, "--help")
        assert code == 0
        assert "Usage" in text
