"""What a kill leaves of DVC's own files is mended, and what is whole stays."""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dvc.fs import localfs
from dvc.rwlock import rwlock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from pipeline.project import paths
from stages import dvc_files

RUN_CACHE = Path(".dvc/cache/runs")
WHOLE = b"""schema: '2.0'
stages:
  prepare:
    cmd: python -m stages.prepare
    deps:
    - path: pipeline/data.py
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 12
    params:
      params.yaml:
        seed: 0
    outs:
    - path: data/prepared
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 12
      nfiles: 2
  train:
    cmd: python -m stages.train
    outs:
    - path: models/a b.safetensors
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 12
"""


@pytest.fixture(autouse=True)
def _here(project, monkeypatch):
    monkeypatch.setattr(dvc_files, "WRITING", 0)


def accepted_by_dvc() -> bool:
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(paths.DVC_LOCK.read_text()))
    except (Invalid, YAMLError):
        return False
    return True


def test_what_is_entered_has_the_bytes_that_dvc_writes(project):
    values = [None, True, "yes", "null", "~", "1e5", 1e5, 1e-5, 0.1, 3, "0x10", "1:30", "", "- a", "a: b", "'\"", "#",
              "é", "two\nlines", "word " * 60, [], {}, [None, {"a": None}], float("inf")]  # fmt: skip
    entries = {"b": OrderedDict(cmd="x " * 90, params={"params.yaml": dict(enumerate(values))}), "a": {"cmd": values}}
    paths.DVC_LOCK.write_bytes(WHOLE)
    with modify_yaml(paths.DVC_LOCK) as lock:
        lock["stages"].update(entries)
    theirs = paths.DVC_LOCK.read_bytes()
    paths.DVC_LOCK.write_bytes(WHOLE)
    dvc_files.enter({"a": entries["a"]})
    dvc_files.enter(entries)  # what was read back is written as it was
    assert YAML(typ="safe").load(theirs) == YAML(typ="safe").load(paths.DVC_LOCK.read_bytes())
    paths.DVC_LOCK.write_bytes(WHOLE)
    dvc_files.enter(entries)
    assert paths.DVC_LOCK.read_bytes() == theirs


def test_the_first_entry_makes_the_file(project):
    dvc_files.enter({"a": {"cmd": "true"}})
    assert paths.DVC_LOCK.read_text() == "schema: '2.0'\nstages:\n  a:\n    cmd: 'true'\n"


def test_wherever_it_was_cut_dvc_takes_what_is_left_of_it(project):
    for size in range(len(WHOLE)):
        paths.DVC_LOCK.write_bytes(WHOLE)
        dvc_files.keep()
        paths.DVC_LOCK.write_bytes(WHOLE[:size])
        mended = dvc_files.mend(RUN_CACHE)
        assert accepted_by_dvc(), WHOLE[:size]
        assert not mended or paths.DVC_LOCK.read_bytes() == WHOLE


def test_a_whole_one_is_left_alone(project):
    paths.DVC_LOCK.write_bytes(WHOLE)
    assert not dvc_files.mend(RUN_CACHE) and paths.DVC_LOCK.read_bytes() == WHOLE


def test_a_cut_one_is_never_kept(project):
    paths.DVC_LOCK.write_bytes(WHOLE)
    dvc_files.keep()
    paths.DVC_LOCK.write_bytes(WHOLE[:80])
    dvc_files.keep()
    assert dvc_files.COPY.read_bytes() == WHOLE


def test_stages_that_begin_together_do_not_take_each_others_copy_away(project):
    paths.DVC_LOCK.write_bytes(WHOLE)
    with ThreadPoolExecutor(8) as pool:
        for kept in [pool.submit(dvc_files.keep) for _ in range(400)]:
            kept.result()
    assert dvc_files.COPY.read_bytes() == WHOLE


def test_without_a_copy_a_cut_one_is_removed(project):
    assert not dvc_files.mend(RUN_CACHE)
    paths.DVC_LOCK.write_bytes(WHOLE[:80])
    assert dvc_files.mend(RUN_CACHE) and not paths.DVC_LOCK.exists()


def test_a_merge_conflict_is_left_to_its_author(project):
    conflict = b"<<<<<<< HEAD\n" + WHOLE + b"=======\n" + WHOLE + b">>>>>>> other\n"
    paths.DVC_LOCK.write_bytes(conflict)
    assert not dvc_files.mend(RUN_CACHE) and paths.DVC_LOCK.read_bytes() == conflict


@pytest.mark.parametrize("size", [0, 1, 40])
def test_dvcs_cut_list_of_who_reads_and_writes_what_is_removed(project, size):
    dvc_files.BUSY.parent.mkdir(parents=True, exist_ok=True)
    with rwlock(str(dvc_files.BUSY.parent), localfs, "a stage", ["read.npy"], ["written.npy"], hardlink=False):
        whole = dvc_files.BUSY.read_bytes()
        assert not dvc_files.mend(RUN_CACHE) and dvc_files.BUSY.read_bytes() == whole
    dvc_files.BUSY.write_bytes(whole[:size])
    assert dvc_files.mend(RUN_CACHE) and not dvc_files.BUSY.exists() and not dvc_files.mend(RUN_CACHE)


def test_begun_entries_of_the_run_cache_are_removed_and_whole_ones_stay(project):
    whole, beside, alone = (RUN_CACHE / path for path in ("12/12a/345", "12/12a/.x-1.tmp", "67/67b/.y_2.tmp"))
    empty = RUN_CACHE / "89/89c"
    for path in (whole, beside, alone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WHOLE)
    empty.mkdir(parents=True)
    assert len(dvc_files.mend(RUN_CACHE)) == 1 and not dvc_files.mend(RUN_CACHE)
    assert whole.exists() and not any(path.exists() for path in (beside, alone, alone.parent, empty))


def test_what_somebody_is_writing_stays(project, monkeypatch):
    entry = RUN_CACHE / "12/12a/345"
    entry.parent.mkdir(parents=True)
    monkeypatch.setattr(dvc_files.time, "sleep", lambda _: entry.write_bytes(WHOLE))
    assert not dvc_files.mend(RUN_CACHE) and entry.exists()
