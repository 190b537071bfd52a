"""Results on disk: whole or not there, read back as written, counted once."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holobeam.errors import FileError
from holobeam.studies import claims, files, packs
from holobeam.studies.claims import Claims
from holobeam.studies.files import CorruptFileError, FullDiskError
from holobeam.studies.store import (
    PACKING,
    Store,
    compact,
    encode_table,
    read_table,
    read_units,
    table_meta,
    write_atomically,
)

KEYS = ("0a" * 10, "1b" * 10, "2c" * 10)


def table(rows=5, seed=0, history=False):
    drawn = np.random.default_rng(seed)
    columns = {
        "channel": pa.array(range(rows), pa.int32()),
        "rates": pa.array(drawn.random((rows, 3)).tolist(), pa.list_(pa.float64())),
        "status": pa.array([0] * rows, pa.int8()),
    }
    if history:
        columns["history"] = pa.array(drawn.random((rows, 2)).tolist(), pa.list_(pa.float64()))
    return pa.table(columns)


def filled(folder, keys=KEYS, **how):
    """Store with a unit for each key."""
    store = Store(folder)
    store.prepare()
    for seed, key in enumerate(keys):
        made = encode_table(table(seed=seed, **how), {"case": "same", "start": seed})
        write_atomically(store.unit_path(key), made)
    return store


def units(store, wanted=KEYS):
    return {key: (t.to_pydict(), meta) for key, t, meta in read_units(store, set(wanted))}


def test_what_is_written_is_read_back_and_any_parquet_reader_can_read_it(tmp_path):
    path = tmp_path / "unit.parquet"
    content = encode_table(table(), {"case": "x", "start": 0})
    write_atomically(path, content)
    read = read_table(path)
    assert read.to_pydict() == table().to_pydict()
    assert table_meta(read) == {"case": "x", "start": 0}
    assert pq.read_table(path).to_pydict() == table().to_pydict()
    assert encode_table(table(), {"start": 0, "case": "x"}) == content


WHOLE = encode_table(table(), {"case": "x", "start": 0})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255))
def test_any_flipped_byte_is_noticed(tmp_path, place, flip):
    """In the data, the description, the structure, or in the sum itself."""
    path = tmp_path / "unit.parquet"
    path.write_bytes(WHOLE[:place] + bytes([WHOLE[place] ^ flip]) + WHOLE[place + 1 :])
    with pytest.raises(CorruptFileError, match="damaged"):
        read_table(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, len(WHOLE) - 1), tail=st.binary(max_size=8))
def test_any_truncation_is_noticed(tmp_path, length, tail):
    path = tmp_path / "unit.parquet"
    if WHOLE[:length] + tail == WHOLE:
        return
    path.write_bytes(WHOLE[:length] + tail)
    with pytest.raises(CorruptFileError):
        read_table(path)


def test_a_foreign_file_is_not_ours(tmp_path):
    pq.write_table(table(), tmp_path / "unit.parquet")
    with pytest.raises(CorruptFileError):
        read_table(tmp_path / "unit.parquet")


def test_damaged_units_are_set_aside_and_the_others_stay(tmp_path):
    store = filled(tmp_path)
    hurt = store.unit_path(KEYS[1])
    hurt.write_bytes(hurt.read_bytes()[:-7])
    assert store.finished() == {KEYS[0], KEYS[2]}
    assert not hurt.exists()
    assert hurt.with_suffix(".corrupt").exists()
    assert store.finished() == {KEYS[0], KEYS[2]}


def test_only_what_is_wanted_is_looked_at(tmp_path, monkeypatch):
    """A part of a batch queue must not read what the other parts have done."""
    store = filled(tmp_path)
    seen = []
    read = files.read_bytes
    monkeypatch.setattr(
        "holobeam.studies.store.read_bytes", lambda path: (seen.append(path.stem), read(path))[1]
    )
    assert store.finished({KEYS[0], "ff" * 10}) == {KEYS[0]}
    assert seen == [KEYS[0]]


def test_an_unreadable_disk_is_not_taken_for_damage(tmp_path, monkeypatch):
    """Renaming a thousand good files because the disk hiccups would lose finished work."""
    store = filled(tmp_path)

    def broken(self):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(FileError, match="can't read"):
        store.finished()
    monkeypatch.undo()
    assert store.finished() == set(KEYS)


def _temporary(folder, pid, host=None, name="ab" * 10):
    path = folder / f".{name}.parquet.{host or socket.gethostname()}.{pid}.0badcafe.tmp"
    path.write_bytes(b"half")
    return path


def test_temporary_files_of_the_dead_are_swept_out_those_of_the_living_stay(tmp_path):
    store = filled(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = _temporary(store.units, gone.pid)
    alive = _temporary(store.units, os.getpid())
    elsewhere = _temporary(store.units, gone.pid, "some.other.host")
    ancient = _temporary(store.units, os.getpid(), "some.other.host", "cd" * 10)
    os.utime(ancient, (0, time.time() - 2 * files.ABANDONED_AFTER))
    store.prepare()
    assert not dead.exists()
    assert not ancient.exists()
    assert alive.exists()
    assert elsewhere.exists()
    assert store.finished() == set(KEYS)


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_failed_write_leaves_nothing_and_says_why(tmp_path, monkeypatch, where, number):
    path = tmp_path / "unit.parquet"
    write_atomically(path, b"before")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os if where == "fsync" else Path, where, fail)
    kind = FileError if number == errno.EROFS else FullDiskError
    with pytest.raises(kind, match=r"was not written|can't write"):
        write_atomically(path, b"after")
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"before"


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "unit.parquet", b"content")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 200 kB, where we may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    made = os.geteuid() == 0 and not subprocess.run(options, check=False).returncode
    if not made:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk(tiny_disk):
    content = os.urandom(30_000)
    # 200 kB hold six.
    written = 6
    for number in range(written):
        write_atomically(tiny_disk / f"{number}.parquet", content)
    with pytest.raises(FullDiskError, match="disk is full"):
        write_atomically(tiny_disk / "more.parquet", content)
    names = sorted(os.listdir(tiny_disk))
    assert names == sorted(f"{number}.parquet" for number in range(written))
    assert all((tiny_disk / name).read_bytes() == content for name in names)


HOLDER = """
import fcntl, sys, time
with open(sys.argv[1] + "/claims", "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2][:15], 16))
        print(True, flush=True)
    except BlockingIOError:
        print(False, flush=True)
    time.sleep(60)
"""


def _holder(folder, key):
    """Another process that claims a unit (on its own, so that it starts fast)."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), key], stdout=subprocess.PIPE, text=True
    )


def test_claims_keep_other_processes_out_and_die_with_their_holder(tmp_path):
    mine = Claims(tmp_path)
    other = _holder(tmp_path, KEYS[0])
    assert other.stdout.readline().strip() == "True"
    assert not mine.take(KEYS[0])
    assert mine.take(KEYS[1])
    third = _holder(tmp_path, KEYS[1])
    assert third.stdout.readline().strip() == "False"
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert mine.take(KEYS[0])
    third.kill()
    third.communicate()
    mine.close()


def test_claims_hold_within_a_process_and_when_another_set_of_them_is_closed(tmp_path):
    """POSIX locks would not: closing any descriptor of the file gives up all of them."""
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take(KEYS[0])
    assert not second.take(KEYS[0])
    (tmp_path / "claims").stat()
    second.close()
    other = _holder(tmp_path, KEYS[0])
    assert other.stdout.readline().strip() == "False"
    other.kill()
    other.communicate()
    first.release(KEYS[0])
    third = Claims(tmp_path)
    assert third.take(KEYS[0])
    third.close()
    first.close()
    assert not claims._OPEN


def test_without_locks_work_goes_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    mine = Claims(tmp_path)
    with pytest.warns(RuntimeWarning, match="no locks"):
        assert mine.take(KEYS[0])
    mine.close()


@pytest.mark.parametrize("size", [2, 4096])
def test_packed_units_are_the_same_units(tmp_path, monkeypatch, size):
    monkeypatch.setattr(packs, "UNITS_IN_A_PACK", size)
    store = filled(tmp_path)
    before = units(store)
    assert compact(store) == 3
    assert store.loose() == 0
    assert units(store) == before
    assert store.finished() == set(KEYS)
    assert all(store.has(key) for key in KEYS)
    assert len(list(store.packs.iterdir())) == -(-3 // size)
    assert compact(store) == 0


def test_units_of_different_columns_share_a_pack(tmp_path):
    store = filled(tmp_path, KEYS[:1])
    filled(tmp_path, KEYS[1:2], history=True)
    empty = encode_table(pa.table({"channel": pa.array([], pa.int32())}), {"unsupported": "no"})
    write_atomically(store.unit_path(KEYS[2]), empty)
    before = units(store)
    compact(store)
    after = units(store)
    assert after[KEYS[0]] == before[KEYS[0]]
    assert after[KEYS[1]] == before[KEYS[1]]
    assert after[KEYS[2]][1] == before[KEYS[2]][1]
    assert after[KEYS[2]][0]["channel"] == []


def test_compaction_killed_in_between_counts_nothing_twice(tmp_path, monkeypatch):
    """Between writing the pack and deleting the files everything is there twice."""
    store = filled(tmp_path)
    before = units(store)

    def killed(self, missing_ok=False):
        if self.suffix == ".parquet":
            raise KeyboardInterrupt
        os.unlink(self)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(store)
    monkeypatch.undo()
    assert (store.loose(), len(store.packed())) == (3, 3)
    assert units(store) == before
    assert len(list(read_units(store, set(KEYS)))) == 3
    compact(store)
    assert store.loose() == 0
    assert units(store) == before


def test_one_process_packs_at_a_time(tmp_path):
    """Two would write the same units into two packs."""
    store = filled(tmp_path)
    other = Claims(tmp_path)
    assert other.take(PACKING)
    assert compact(store) == 0
    other.close()
    assert compact(store) == 3


def test_a_damaged_pack_is_set_aside(tmp_path):
    store = filled(tmp_path)
    compact(store)
    pack = next(store.packs.glob("*.parquet"))
    pack.write_bytes(pack.read_bytes()[:-9])
    os.utime(store.packs)
    assert store.finished() == set()
    assert pack.with_suffix(".corrupt").exists()


def test_packing_beside_a_reader_loses_nothing(tmp_path, monkeypatch):
    """A unit may move into a pack between the listing and the reading."""
    store = filled(tmp_path)
    before = units(store)
    read = read_table

    def late(path):
        monkeypatch.undo()
        compact(store)
        return read(path)

    monkeypatch.setattr("holobeam.studies.store.read_table", late)
    assert units(store) == before


def test_a_manifest_is_read_back_or_its_folder_is_named(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(FileError, match=r"no study\.json"):
        store.manifest()
    store.write_manifest({"study": 1})
    assert store.manifest() == {"study": 1}
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(FileError, match="damaged"):
        store.manifest()
