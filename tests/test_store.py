"""The store: nothing finished is lost, whatever cuts a run off."""

import json
import os
import subprocess
import sys

import pytest

from decoding.errors import StoreError
from evals.store import Store, pack, read_config, read_rows

CONFIG = {"task": "t", "seed": 0}


def rows(folder, table="samples"):
    return list(read_rows(folder, table))


def test_rows_come_back_in_order_also_unpaired_surrogates(tmp_path):
    written = [{"i": i, "text": text} for i, text in enumerate(["", "\n", "\x00", "\ud800", "é" * 10])]
    with Store(tmp_path, CONFIG, {}) as store:
        for row in written:
            store.append("samples", row)
    assert rows(tmp_path) == written


def test_a_torn_last_line_is_not_read_and_is_cut_off_on_reopening(tmp_path):
    with Store(tmp_path, CONFIG, {}) as store:
        store.append("samples", {"i": 0})
    path = tmp_path / "samples.jsonl"
    for torn in (b'{"i": 1', b'{"i":1}', b"{" + b"x" * 200_000):
        with path.open("ab") as file:
            file.write(torn)
        assert rows(tmp_path) == [{"i": 0}]
        with Store(tmp_path, CONFIG, {}):
            pass
        assert path.read_bytes() == b'{"i":0}\n'


def test_a_file_that_is_only_a_torn_line_is_emptied(tmp_path):
    with Store(tmp_path, CONFIG, {}):
        pass
    (tmp_path / "samples.jsonl").write_bytes(b'{"i"')
    with Store(tmp_path, CONFIG, {}) as store:
        store.append("samples", {"i": 7})
    assert rows(tmp_path) == [{"i": 7}]


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    with Store(tmp_path, CONFIG, {}):
        pass
    (tmp_path / "samples.jsonl").write_bytes(b'{"i":0}\nnot json\n{"i":2}\n')
    with pytest.raises(StoreError, match="line 2"):
        rows(tmp_path)


def test_other_settings_are_refused_and_named(tmp_path):
    with Store(tmp_path, CONFIG, {}):
        pass
    with pytest.raises(StoreError, match=r"seed: 0 there, 1 now"):
        Store(tmp_path, {**CONFIG, "seed": 1}, {})


def test_other_versions_are_recorded_and_do_not_stop_a_run(tmp_path):
    for versions in ({"vllm": "1"}, {"vllm": "1"}, {"vllm": "2"}):
        with Store(tmp_path, CONFIG, versions):
            pass
    assert read_config(tmp_path)["environments"] == [{"vllm": "1"}, {"vllm": "2"}]


def test_only_one_process_writes(tmp_path):
    with Store(tmp_path, CONFIG, {}), pytest.raises(StoreError, match="another process"):
        Store(tmp_path, CONFIG, {})
    with Store(tmp_path, CONFIG, {}):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        Store(tmp_path / "file" / "run", CONFIG, {})


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"no run\.json"):
        read_config(tmp_path)


FULL_DISK = """
import resource, sys, pathlib, signal
from decoding.errors import StoreError
from evals.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store(pathlib.Path(sys.argv[1]), {"task": "t", "seed": 0}, {}) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    try:
        for i in range(1000):
            store.append("samples", {"i": i, "text": "x" * 90})
    except StoreError as error:
        print(i, error)
"""


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path):
    """The kernel writes a part of the row that no longer fits, as on a full disk; all rows before it survive."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    failed_at, _, message = done.stdout.partition(" ")
    assert "Nothing that was finished is lost" in message
    assert [row["i"] for row in rows(tmp_path)] == list(range(int(failed_at)))
    with Store(tmp_path, CONFIG, {}) as store:
        store.append("samples", {"i": "next"})
    assert rows(tmp_path)[-1] == {"i": "next"}


def test_packing_keeps_the_rows_and_gives_the_same_bytes(tmp_path):
    packed = []
    for name in ("a", "b"):
        with Store(tmp_path / name, CONFIG, {}) as store:
            for i in range(50):
                store.append("samples", {"i": i})
        pack(tmp_path / name)
        assert [row["i"] for row in rows(tmp_path / name)] == list(range(50))
        packed.append((tmp_path / name / "samples.jsonl.gz").read_bytes())
    assert packed[0] == packed[1]
    assert json.loads((tmp_path / "a" / "run.json").read_text())["config"] == CONFIG
