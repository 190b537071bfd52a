import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam.errors import FileError
from holobeam.learned.checkpoints import (
    Weights,
    read_state,
    read_weights,
    write_state,
    write_weights,
)


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.float16)}
    write_weights(path, Weights("fnn", {"width": 3}, tensors, {"seed": 1}))
    return path


def test_weights_come_back_as_they_were_written(kept):
    back = read_weights(kept)
    assert (back.model, back.options, back.about) == ("fnn", {"width": 3}, {"seed": 1})
    assert torch.equal(back.tensors["a"], torch.arange(6.0).view(2, 3))
    assert back.tensors["b"].dtype == torch.float16


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_truncated_or_altered_file_never_gives_anything_but_a_clear_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / "w.safetensors"
    write_weights(path, Weights("fnn", {}, {"a": torch.zeros(4)}, {}))
    content = bytearray(path.read_bytes())
    cut = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:cut])
    with pytest.raises(FileError):
        read_weights(path)
    content[data.draw(st.integers(0, 7))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(FileError):
        read_weights(path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 64, pickle.dumps(Bomb()), b"PK\x03\x04" + b"0" * 100, b"\xff" * 1000],
    ids=["empty", "zeros", "pickle", "zip", "ones"],
)
def test_foreign_files_are_refused_and_nothing_in_them_runs(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match="weights"):
        read_weights(path)


def test_safetensors_of_others_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(FileError, match="does not say what it holds"):
        read_weights(tmp_path / "w.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match="nowhere"):
        read_weights(tmp_path / "nowhere.safetensors")


def test_only_the_last_state_is_kept(tmp_path):
    for step in (1, 2):
        write_state(tmp_path, {"a": torch.full((2,), float(step))}, {"step": step})
    tensors, state = read_state(tmp_path)
    assert state["step"] == 2
    assert torch.equal(tensors["a"], torch.full((2,), 2.0))
    assert len(list(tmp_path.glob("state-*"))) == 1


def test_a_state_can_not_point_outside_its_folder(tmp_path):
    folder = tmp_path / "run"
    write_state(folder, {"a": torch.zeros(1)}, {"step": 1})
    outside = tmp_path / "state-000000001.safetensors"
    (folder / outside.name).rename(outside)
    said = json.loads((folder / "state.json").read_text())
    said["tensors"] = f"../{outside.name}"
    (folder / "state.json").write_text(json.dumps(said))
    with pytest.raises(FileError, match="can't read"):
        read_state(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tensors": 3}', '{"tensors": "x"}'])
def test_a_damaged_description_is_refused(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(FileError):
        read_state(tmp_path)
