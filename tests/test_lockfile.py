"""A dvc.lock cut anywhere is mended from its last whole copy."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from dvc.fs import localfs
from dvc.rwlock import rwlock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from pipeline import lockfile, paths

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
def _here(project):
    pass


def accepted_by_dvc() -> bool:
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(paths.DVC_LOCK.read_text()))
    except (Invalid, YAMLError):
        return False
    return True


def test_wherever_it_was_cut_dvc_takes_what_is_left_of_it(project):
    for size in range(len(WHOLE)):
        paths.DVC_LOCK.write_bytes(WHOLE)
        lockfile.keep()
        paths.DVC_LOCK.write_bytes(WHOLE[:size])
        mended = lockfile.mend()
        assert accepted_by_dvc(), WHOLE[:size]
        assert not mended or paths.DVC_LOCK.read_bytes() == WHOLE


def test_a_whole_one_is_left_alone(project):
    paths.DVC_LOCK.write_bytes(WHOLE)
    assert not lockfile.mend() and paths.DVC_LOCK.read_bytes() == WHOLE


def test_a_cut_one_is_never_kept(project):
    paths.DVC_LOCK.write_bytes(WHOLE)
    lockfile.keep()
    paths.DVC_LOCK.write_bytes(WHOLE[:80])
    lockfile.keep()
    assert lockfile.COPY.read_bytes() == WHOLE


def test_stages_that_begin_together_do_not_take_each_others_copy_away(project):
    paths.DVC_LOCK.write_bytes(WHOLE)
    with ThreadPoolExecutor(8) as pool:
        for kept in [pool.submit(lockfile.keep) for _ in range(400)]:
            kept.result()
    assert lockfile.COPY.read_bytes() == WHOLE


def test_without_a_copy_a_cut_one_is_removed(project):
    assert not lockfile.mend()
    paths.DVC_LOCK.write_bytes(WHOLE[:80])
    assert lockfile.mend() and not paths.DVC_LOCK.exists()


def test_a_merge_conflict_is_left_to_its_author(project):
    conflict = b"<<<<<<< HEAD\n" + WHOLE + b"=======\n" + WHOLE + b">>>>>>> other\n"
    paths.DVC_LOCK.write_bytes(conflict)
    assert not lockfile.mend() and paths.DVC_LOCK.read_bytes() == conflict


@pytest.mark.parametrize("size", [0, 1, 40])
def test_dvcs_cut_list_of_who_reads_and_writes_what_is_removed(project, monkeypatch, size):
    monkeypatch.setattr(lockfile, "WRITING", 0)
    lockfile.BUSY.parent.mkdir(parents=True, exist_ok=True)
    with rwlock(str(lockfile.BUSY.parent), localfs, "a stage", ["read.npy"], ["written.npy"], hardlink=False):
        whole = lockfile.BUSY.read_bytes()
        assert not lockfile.free() and lockfile.BUSY.read_bytes() == whole
    lockfile.BUSY.write_bytes(whole[:size])
    assert lockfile.free() and not lockfile.BUSY.exists() and not lockfile.free()
