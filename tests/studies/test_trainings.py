"""Studies that train: a unit of work that makes the weights of others."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest

from holobeam.errors import UnknownNameError
from holobeam.studies.calibration import calibrate
from holobeam.studies.checks import Decision, judge
from holobeam.studies.engine import Errand, local_runner, run_studies
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import StudyError
from holobeam.studies.results import load_results
from holobeam.studies.spec import Cheaper
from holobeam.studies.trainings import is_finished, weights_path

from .trained_study import TRAINED, files


def test_a_training_is_one_unit_whatever_asks_for_it(trained):
    axis = 'sweep={"problem.snr_db"=[10], "solvers.mb-dnn.options.begin"=["plain", "random"]}'
    plan = trained(overrides=[axis]).plan
    assert len(plan.trainings) == 1
    # Nothing of "random" depends on how the other begins.
    assert len(plan.units) == (2 + 1) * 2
    # Labels and SNRs that it does not see leave it alone, seeds and steps don't.
    (key,) = {training.key for training in plan.trainings}
    for change, same in (
        ("title=Other", True),
        ("count=12", True),
        ("trainings.small.set.seed=1", False),
        ("trainings.small.set.settings.steps=7", False),
        ("problem.snr_db=5", False),
    ):
        (other,) = trained(overrides=[change]).plan.trainings
        assert (other.key == key) is same, change
    (other,) = make_plan(plan.study, versions=(("torch", "0.0"),)).trainings
    assert other.key != key
    with pytest.raises(UnknownNameError, match="small"):
        trained(overrides=['sweep={"solvers.mb-dnn.options.weights"=["training:smal"]}'])


@pytest.mark.parametrize(
    ("old", "new", "line", "meant"),
    [
        ('"training:small"', '"training:smal"', "options = { weights", "small"),
        ('recipe = "mb-dnn"', 'recipe = "mb-dmn"', "recipe", "mb-dnn"),
        ("warmup = 2", "warm_up = 2", "set.settings", "warmup"),
        ("set.batch = 8", "sett.batch = 8", "[trainings.small]", "set"),
        ("steps = 4", "step = 4", "trainings = {", "steps"),
    ],
)
def test_errors_name_the_line_and_the_nearest_word(trained, old, new, line, meant):
    text = TRAINED.replace(old, new, 1)
    with pytest.raises(StudyError, match=meant) as caught:
        trained(text=text)
    number = next(n for n, t in enumerate(text.splitlines(), 1) if t.startswith(line))
    assert caught.value.argument.endswith(f":{number}")


def test_what_is_trained_is_what_competes(trained):
    errand = trained()
    summary = run_studies([errand], local_runner(0))
    assert (summary.done, summary.failed) == (5, [])
    (training,) = errand.plan.trainings
    assert is_finished(errand.trained, training.key)
    assert not (errand.trained / "courses" / training.key).exists()
    results = load_results(errand.folder)
    (point,) = results.points()
    record = results.training(point, "mb-dnn")
    assert results.training(point, "random") is None
    assert (record.steps, record.samples, record.model) == (6, 48, "mb-dnn")
    assert record.parameters > 100
    assert 0 < record.cpu_seconds < 60
    trained_rate = results.get(point, "mb-dnn").sum_rate
    assert len(trained_rate) == 6
    # Other weights, other rates; running again does nothing.
    again = run_studies([errand], local_runner(0))
    assert (again.done, again.reused) == (0, 5)
    other = trained("other", ["trainings.small.set.seed=4"])
    run_studies([other], local_runner(0))
    fresh = load_results(other.folder)
    assert (fresh.get(point, "mb-dnn").sum_rate != trained_rate).any()
    assert (fresh.get(point, "random").sum_rate == results.get(point, "random").sum_rate).all()


def test_the_same_bytes_on_workers_and_in_parts(trained):
    axis = 'sweep={"trainings.small.set.seed"=[0, 1]}'
    one, workers, parts = (trained(name, [axis]) for name in ("one", "workers", "parts"))
    run_studies([one], local_runner(0))
    assert len(files(one)) == 2 * 2 * 2 - 2 + 2 * 2
    run_studies([workers], local_runner(2))
    # A part trains what it needs and waits for nobody, also if no other part ever runs.
    summary = run_studies([parts], local_runner(0), part=(1, 3))
    assert summary.failed == []
    for number in (0, 2):
        run_studies([parts], local_runner(0), part=(number, 3))
    assert files(one) == files(workers) == files(parts)


def test_studies_share_what_they_train(trained):
    errand = trained()
    twin = Errand(errand.plan, errand.folder.parent / "twin", trainings=errand.trained)
    alone = Errand(errand.plan, errand.folder.parent / "alone")
    summary = run_studies([errand, twin, alone], local_runner(0))
    assert (summary.done, summary.failed) == (2 + 3 * 4, [])
    assert files(errand) == files(twin) == files(alone)


def test_weights_that_are_gone_or_damaged_are_made_again(trained):
    errand = trained()
    run_studies([errand], local_runner(0))
    before = files(errand)
    (training,) = errand.plan.trainings
    path = weights_path(errand.trained, training.key)
    for harm in (path.unlink, lambda: path.write_bytes(path.read_bytes()[:-1] + b"\xff")):
        harm()
        summary = run_studies([errand], local_runner(0))
        assert (summary.done, summary.reused) == (1, 4)
        for corrupt in errand.trained.rglob("*.corrupt"):
            corrupt.unlink()
        assert files(errand) == before


def test_a_failed_training_fails_what_waits_for_it_and_nothing_else(trained):
    wrong = ["trainings.small.set.options.rf_chains=3"]
    summary = run_studies([trained(overrides=wrong)], local_runner(0))
    assert len(summary.failed) == 1 + 2
    assert summary.done == 2
    assert any("training small" in line for line in summary.failed)


def test_reaching_ends_a_training_and_survives_a_kill_at_its_end(trained, monkeypatch):
    exam = 'trainings.small.set.exam={count=16, reference={name="random", starts=1, options={}}}'
    how = [exam, "trainings.small.reach=0.01"]
    errand = trained(overrides=how)
    run_studies([errand], local_runner(0))
    results = load_results(errand.folder)
    record = results.training(results.points()[0], "mb-dnn")
    assert (record.steps, record.reached) == (2, True)
    assert record.share > 0.01
    # Killed behind its last checkpoint: it must not go on training.
    cut = trained("cut", how)
    with monkeypatch.context() as patch:
        patch.setattr("holobeam.studies.train_unit.encode_weights", _killed)
        run_studies([cut], local_runner(0))
    assert list((cut.trained / "courses").iterdir())
    run_studies([cut], local_runner(0))
    assert files(cut) == files(errand)
    # Not within reach: it goes to its last step, and says so.
    far = trained("far", [exam, "trainings.small.reach=50.0"])
    run_studies([far], local_runner(0))
    results = load_results(far.folder)
    record = results.training(results.points()[0], "mb-dnn")
    assert (record.steps, record.reached) == (6, False)


def _killed(_):
    raise RuntimeError("killed")


def test_a_damaged_checkpoint_is_moved_away_and_all_begins_anew(trained):
    errand, other = trained(), trained("other")
    run_studies([errand], local_runner(0))
    (training,) = other.plan.trainings
    course = other.trained / "courses" / training.key
    course.mkdir(parents=True)
    (course / "state.json").write_text("{")
    assert run_studies([other], local_runner(0)).failed == []
    assert files(other) == files(errand)


def test_the_plan_shows_trainings_and_their_time(trained):
    errand = trained(quick=True)
    assert errand.plan.trainings[0].recipe.settings.steps == 4
    estimates = {e.label: e for e in calibrate(errand.plan)}
    assert estimates["training small"].channels == 4 * 8
    assert 0 < estimates["training small"].seconds < 60
    assert estimates["mb-dnn"].seconds > 0


def test_what_trainings_take_is_compared(trained):
    text = TRAINED + '\n[[solvers]]\nname = "mb-dnn"\nlabel = "longer"\n'
    text += 'options = { weights = "training:longer" }\n'
    longer = TRAINED[TRAINED.index("[trainings.small]") : TRAINED.index("[quick]")]
    text = text.replace("[quick]", longer.replace("small", "longer") + "[quick]")
    errand = trained(text=text, overrides=["trainings.longer.set.settings.steps=12"])
    run_studies([errand], local_runner(0))
    results = load_results(errand.folder)

    def said(factor, quantity="training_samples", solver="mb-dnn", than="longer"):
        relation = Cheaper(
            kind="cheaper", solver=solver, than=than, quantity=quantity, factor=factor
        )
        return judge(relation, results).decision

    assert said(1.9) is Decision.CONFIRMED
    assert said(2.1) is Decision.REFUTED
    assert said(1.0, "parameters") is Decision.CONFIRMED
    assert said(1.0, than="random") is Decision.ABSENT
    # Who was to reach something and did not has not shown what it takes.
    point = results.points()[0]
    key = results._trained[point.label, "mb-dnn"]
    short = replace(results.trainings[key], reached=False, share=0.5)
    results = replace(results, trainings={**results.trainings, key: short})
    assert said(1.0) is Decision.REFUTED


@pytest.mark.slow
def test_kills_during_a_training_change_nothing(trained, command, tmp_path):
    """SIGKILL of driver or worker while it trains, until it has come through."""
    how = ["trainings.small.set.settings.steps=160", "trainings.small.set.batch=64"]
    how.append("trainings.small.set.settings.checkpoint_every=8")
    undisturbed = trained("undisturbed", how)
    run_studies([undisturbed], local_runner(1))
    (training,) = undisturbed.plan.trainings
    cut = trained("cut", how)
    state = cut.trained / "courses" / training.key / "state.json"
    sets = [part for change in how for part in ("--set", change)]
    arguments = ("run", tmp_path / "trained.toml", "--out", tmp_path / "cut", *sets)
    steps = []
    for kill in range(4):
        before = _step(state)
        driver = command(*arguments, "--workers", 1)
        end = time.monotonic() + 120
        while _step(state) <= before + 8 and driver.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        if driver.poll() is not None:
            break
        steps.append(_step(state))
        if kill % 2:
            os.kill(driver.pid, signal.SIGKILL)
            # Its worker is an orphan now: it ends with what it is at, unless it is killed too.
            driver.communicate()
        else:
            with open(f"/proc/{driver.pid}/task/{driver.pid}/children", encoding="ascii") as file:
                for child in file.read().split():
                    os.kill(int(child), signal.SIGKILL)
            driver.kill()
            driver.communicate()
    assert len(steps) >= 2
    assert steps == sorted(steps)
    driver = command(*arguments, "--workers", 1)
    driver.communicate(timeout=240)
    assert driver.returncode == 0
    assert files(cut) == files(undisturbed)
    assert not list((tmp_path / "cut").rglob("*.tmp"))


def _step(state):
    try:
        return json.loads(state.read_text())["step"]
    except FileNotFoundError:
        return 0
