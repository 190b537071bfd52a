"""Study files: what is read, and errors that name the file, the line and the nearest key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holobeam.errors import FileError, HolobeamError, InputError, UnknownNameError
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import StudyError, find_studies, locate, read_study, split_path

from .small_study import SMALL


def line_of(text, start):
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith(start))


@pytest.mark.parametrize(
    ("old", "new", "start", "meant"),
    [
        ("seed = 3", "sead = 3", "sead", "seed"),
        ("users = 2", "usrs = 2", "usrs", "users"),
        ('model = "path-wise"', 'model = "path-wize"', "[channels]", "path-wise"),
        ('kind = "rhs"', 'kind = "rsh"', "[frontends.surface]", "rhs"),
        ("rf_chains = 2", "rf_chain = 2", "rf_chain ", "rf_chains"),
        ('label = "folded"', 'lable = "folded"', "lable", "label"),
        ('frontend = "digital"', 'frontend = "digitol"', 'frontend = "digitol"', "digital"),
    ],
)
def test_an_unknown_word_names_file_line_and_the_nearest_one(small_file, old, new, start, meant):
    text = SMALL.replace(old, new, 1)
    path = small_file(text=text)
    with pytest.raises(StudyError) as caught:
        read_study(path)
    assert str(path) in caught.value.argument
    assert caught.value.argument.endswith(f":{line_of(text, start)}")
    assert "did you mean" in caught.value.right
    assert meant in caught.value.right


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("count = 10", "count = 0", "count"),
        ("shape = [3, 3]", "shape = [3, -3]", "shape"),
        ("snr_db = 10", 'snr_db = "loud"', "snr_db"),
        ("history = true", 'history = "often"', "history"),
    ],
)
def test_a_wrong_value_names_its_line(small_file, old, new, start):
    text = SMALL.replace(old, new, 1)
    with pytest.raises(StudyError) as caught:
        read_study(small_file(text=text))
    assert caught.value.argument.endswith(f":{line_of(text, start)}")


def test_toml_that_is_none_names_its_line(small_file):
    with pytest.raises(StudyError, match="not TOML") as caught:
        read_study(small_file(text=SMALL + "\nthis is not toml\n"))
    assert caught.value.argument.endswith(f":{len(SMALL.splitlines()) + 2}")


def test_hostile_files_get_one_error(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00\x01" * 10)
    (tmp_path / "huge.toml").write_bytes(b"#" * 2_000_000)
    for name in ("binary.toml", "huge.toml", "missing.toml"):
        with pytest.raises(StudyError):
            read_study(tmp_path / name)


def test_references_must_lead_somewhere(small_file):
    wrong = '\n[[expect]]\nkind = "order"\nabove = "foldet"\nbelow = "random"\n'
    with pytest.raises(StudyError, match=r"foldet.*folded"):
        read_study(small_file(wrong))
    twice = SMALL.replace('label = "bound"', 'label = "random"')
    with pytest.raises(StudyError, match="two solvers"):
        read_study(small_file(text=twice))


def test_only_a_study_that_waits_may_lack_its_parts(small_file):
    head = 'title = "Later"\npaper = "test"\nfigure = "later"\n'
    with pytest.raises(StudyError, match="channels"):
        read_study(small_file(text=head))
    waiting = read_study(small_file(text=head + 'needs = ["not-there-yet"]\n'))
    assert "not-there-yet" in make_plan(waiting).skipped
    complete_it = read_study(small_file(text=head + 'needs = ["mmse"]\n'))
    assert make_plan(complete_it).entries == ()


def test_overrides_are_put_in_before_anything_is_checked(small_file):
    path = small_file()
    study = read_study(
        path,
        [
            "count=7",
            "channels.shape=[4, 4]",
            'sweep."problem.snr_db"=[5]',
            "solvers.folded.options.max_iterations=2",
            "solvers.1.starts=3",
            "title=A word",
        ],
    )
    assert study.count == 7
    assert study.channels.shape == (4, 4)
    assert study.sweep == {"problem.snr_db": [5]}
    assert study.solver("folded").options["max_iterations"] == 2
    assert study.solver("random").starts == 3
    assert study.title == "A word"


@pytest.mark.parametrize(
    "override", ["count", "=3", "solvers.nobody.starts=2", "count.deeper=1", "coutn=4"]
)
def test_overrides_that_lead_nowhere_are_refused(small_file, override):
    with pytest.raises(InputError):
        read_study(small_file(), [override])


def test_unknown_solvers_are_answered_with_the_nearest(small_file):
    study = read_study(small_file(text=SMALL.replace('name = "random"', 'name = "randon"')))
    with pytest.raises(UnknownNameError, match="random"):
        make_plan(study)


def test_awaited_solvers_are_left_out_by_name(small_file):
    later = '\n[[solvers]]\nname = "tomorrow"\nfrontend = "surface"\nawaited = true\n'
    plan = make_plan(read_study(small_file(later)))
    assert len(plan.left_out) == 1
    assert "tomorrow" in plan.left_out[0]
    assert {entry.label for entry in plan.entries} == {"folded", "random", "bound"}


def test_find_studies_takes_files_and_folders_once(tmp_path, small_file):
    path = small_file()
    assert find_studies([tmp_path, path]) == [path]
    with pytest.raises(FileError):
        find_studies([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError):
        find_studies([tmp_path / "empty"])


@given(st.lists(st.text("abc_-", min_size=1, max_size=5), min_size=1, max_size=4))
def test_split_path_undoes_a_dotted_path(parts):
    assert split_path(".".join(parts)) == parts
    assert split_path(".".join(f'"{part}.x"' for part in parts)) == [f"{p}.x" for p in parts]


@given(st.text(max_size=200), st.lists(st.text("ab0.", max_size=3), max_size=4))
def test_locate_never_fails(text, keys):
    found = locate(text, keys)
    assert found is None or 1 <= found <= len(text.splitlines())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_study_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "study.toml"
    path.write_bytes(content)
    with pytest.raises(HolobeamError):
        read_study(path)
